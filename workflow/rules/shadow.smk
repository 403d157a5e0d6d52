"""What attacks need of all shadow models of a technique and checkpoint, read once."""


rule shadow_pool:
    input:
        pool=rules.dataset.output.pool,
        logits=expand(LOGIT, run=run_names(STUDY.pool_runs), allow_missing=True),
        signals=signals_of(STUDY.pool_runs),
    output:
        pool=POOL,
    log:
        f"{LOG}/shadow/{{technique}}/checkpoint-{{checkpoint}}.log",
    benchmark:
        f"{BENCHMARK}/shadow/{{technique}}/checkpoint-{{checkpoint}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        **asks(lambda wildcards: study_costs().shadow()),
        **NO_GPU,
    params:
        study=STUDY.name,
        settings=STUDY.shadow_settings(),
        runs=run_names(STUDY.pool_runs),
        code=CODE["shadow"],
    script:
        "../scripts/shadow.py"
