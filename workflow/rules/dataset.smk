"""The pool: train and test parts of a dataset put together, checked, as arrays."""


rule dataset:
    output:
        pool=f"{RESULTS}/dataset/pool.safetensors",
        summary=f"{RESULTS}/dataset/summary.json",
    params:
        study=STUDY.name,
        settings=STUDY.dataset_settings(),
        code=CODE["dataset"],
    log:
        f"{LOG}/dataset.log",
    conda:
        ENVIRONMENT
    script:
        "../scripts/dataset.py"
