"""Models that another tool trained: their logits in our layout, and what they were trained on.

Takes the place of the stages from the dataset to the shadow pool.
"""


rule membership:
    """What each model was trained on, and what none was."""
    input:
        models=[
            model.keep or model.logits[STUDY.imported.checkpoints[0]]
            for model in STUDY.imported.models[STUDY.techniques[0]]
        ],
    output:
        membership=MEMBERSHIP,
    log:
        f"{LOG}/membership.log",
    conda:
        ENVIRONMENT
    resources:
        **asks(lambda wildcards: study_costs().membership()),
        **NO_GPU,
    params:
        study=STUDY.name,
        settings=STUDY.import_settings(),
        runs=run_names(STUDY.imported.runs),
        code=CODE["membership"],
    script:
        "../scripts/membership.py"


for block in STUDY.blocks:

    rule:
        name:
            f"import_{block.name}"
        input:
            membership=MEMBERSHIP,
            labels=STUDY.imported.labels or [],
            logits=lambda wildcards, block=block: imported_logits(
                block, wildcards.technique
            ),
        output:
            logits=block_files(LOGIT, block),
        log:
            f"{LOG}/import/{{technique}}/{block.name}.log",
        benchmark:
            f"{BENCHMARK}/import/{{technique}}/{block.name}.tsv"
        wildcard_constraints:
            technique="|".join(map(re.escape, block.techniques)),
        conda:
            ENVIRONMENT
        resources:
            **asks(lambda wildcards, block=block: study_costs().import_models(block)),
            **NO_GPU,
        params:
            study=STUDY.name,
            sources=lambda wildcards, block=block: imported_logits(
                block, wildcards.technique
            ),
            settings=STUDY.import_settings(),
            code=CODE["import"],
        script:
            "../scripts/import.py"


LOGITS = [
    path
    for block in STUDY.blocks
    for technique in block.techniques
    for path in expand(block_files(LOGIT, block), technique=technique)
]


rule shadow_pool:
    """What attacks need of all models of a technique and checkpoint, read once."""
    input:
        membership=MEMBERSHIP,
        logits=expand(LOGIT, run=run_names(STUDY.pool_runs), allow_missing=True),
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
        code=CODE["imported_pool"],
    script:
        "../scripts/imported_pool.py"
