"""The pool: train and test parts of a dataset put together, checked, as arrays."""


rule dataset:
    output:
        pool=f"{RESULTS}/dataset/pool.safetensors",
        summary=f"{RESULTS}/dataset/summary.json",
    log:
        f"{LOG}/dataset.log",
    conda:
        ENVIRONMENT
    params:
        study=STUDY.name,
        settings=STUDY.dataset_settings(),
        code=CODE["dataset"],
    script:
        "../scripts/dataset.py"
