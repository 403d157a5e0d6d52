"""Models: one job trains the runs of a block, each run seeded by itself.

A study that grows adds columns to the membership table and changes none (the seed of
the splits is among the settings), so a newer table is no reason to train again.
"""

for block in STUDY.blocks:

    rule:
        name:
            f"train_{block.name}"
        input:
            pool=rules.dataset.output.pool,
            membership=ancient(rules.splits.output.membership),
        output:
            models=block_files(MODEL, block),
            histories=expand(HISTORY, run=block.run_names, allow_missing=True),
        params:
            study=STUDY.name,
            store=f"{RESULTS}/state",
            settings=lambda wildcards: STUDY.training_settings(wildcards.technique),
            code=CODE["train"],
        log:
            f"{LOG}/train/{{technique}}/{block.name}.log",
        benchmark:
            f"{BENCHMARK}/train/{{technique}}/{block.name}.tsv"
        wildcard_constraints:
            technique="|".join(map(re.escape, block.techniques)),
        conda:
            ENVIRONMENT
        script:
            "../scripts/train.py"
