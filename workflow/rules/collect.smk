"""Tidy tables of the whole study: one row per tuple, attacker and attack."""


rule collect:
    input:
        metrics=tuple_files("metrics"),
        pooled=group_files("group"),
        curves=group_files("curves"),
    output:
        metrics=f"{RESULTS}/tables/metrics.parquet",
        generalization=f"{RESULTS}/tables/generalization.parquet",
        pooled=f"{RESULTS}/tables/pooled.parquet",
        roc=f"{RESULTS}/tables/roc.parquet",
    log:
        f"{LOG}/collect.log",
    benchmark:
        f"{BENCHMARK}/collect.tsv"
    conda:
        ENVIRONMENT
    resources:
        **asks(lambda wildcards: study_costs().collect()),
        **NO_GPU,
    params:
        study=STUDY.name,
        tuples=text_digest(*tuple_files("metrics")),
        code=CODE["collect"],
    script:
        "../scripts/collect.py"
