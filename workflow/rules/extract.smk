"""Logits, phi and loss of every sample at every query, for each tuple of a block."""

for block in STUDY.blocks:

    rule:
        name:
            f"extract_{block.name}"
        input:
            pool=rules.dataset.output.pool,
            models=block_files(MODEL, block),
        output:
            logits=block_files(LOGIT, block),
        log:
            f"{LOG}/extract/{{technique}}/{block.name}.log",
        benchmark:
            f"{BENCHMARK}/extract/{{technique}}/{block.name}.tsv"
        wildcard_constraints:
            technique="|".join(map(re.escape, block.techniques)),
        conda:
            ENVIRONMENT
        threads: STUDY.values["compute"]["threads"]
        resources:
            **asks_gpu(lambda wildcards, block=block: study_costs().extract(block)),
        params:
            study=STUDY.name,
            store=f"{RESULTS}/state",
            settings=STUDY.extraction_settings(),
            code=CODE["extract"],
        script:
            "../scripts/extract.py"


LOGITS = [
    path
    for block in STUDY.blocks
    for technique in block.techniques
    for path in expand(block_files(LOGIT, block), technique=technique)
]
