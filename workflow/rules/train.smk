"""Models: one job trains the runs of a block, each run seeded by itself.

Each job draws the splits it trains on by itself, from their seed among the settings: an
input that grows with the study (the membership table) would, as ``ancient``, hide the new
models of a grown study from Snakemake, and otherwise retrain the old ones.
"""

for block in STUDY.blocks:

    rule:
        name:
            f"train_{block.name}"
        input:
            pool=rules.dataset.output.pool,
        output:
            models=kept_models(block_files(MODEL, block)),
            histories=expand(HISTORY, run=block.run_names, allow_missing=True),
        log:
            f"{LOG}/train/{{technique}}/{block.name}.log",
        benchmark:
            f"{BENCHMARK}/train/{{technique}}/{block.name}.tsv"
        wildcard_constraints:
            technique="|".join(map(re.escape, block.techniques)),
        conda:
            ENVIRONMENT
        threads: STUDY.values["compute"]["threads"]
        resources:
            **asks_gpu(
                lambda wildcards, block=block: study_costs().train(
                    block, wildcards.technique
                )
            ),
        params:
            study=STUDY.name,
            store=f"{RESULTS}/state",
            settings=lambda wildcards: STUDY.training_settings(wildcards.technique),
            code=CODE["train"],
        script:
            "../scripts/train.py"
