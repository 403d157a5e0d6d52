"""Which samples each split trains on, and which belong to the reserve: a table to read."""


rule splits:
    input:
        pool=rules.dataset.output.pool,
    output:
        membership=MEMBERSHIP,
    log:
        f"{LOG}/splits.log",
    conda:
        ENVIRONMENT
    params:
        study=STUDY.name,
        settings=STUDY.split_settings(),
        code=CODE["splits"],
    script:
        "../scripts/splits.py"
