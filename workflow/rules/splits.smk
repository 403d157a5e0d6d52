"""Which samples each split trains on, and which belong to the reserve: a table to read."""


rule splits:
    input:
        pool=rules.dataset.output.pool,
    output:
        membership=f"{RESULTS}/splits/membership.parquet",
    params:
        study=STUDY.name,
        settings=STUDY.split_settings(),
        code=CODE["splits"],
    log:
        f"{LOG}/splits.log",
    conda:
        ENVIRONMENT
    script:
        "../scripts/splits.py"
