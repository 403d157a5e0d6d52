"""What the study will cost, before anything runs: `snakemake plan`."""


def jobs_at_once() -> int:
    """Return how many jobs this call may run at once (`--jobs` on a cluster, else `--cores`)."""
    limits = workflow.resource_settings
    cores = limits.cores if limits.nodes is None else limits.nodes
    return max(1, min(cores or 1, 10_000) // STUDY.values["compute"]["threads"])


rule plan:
    conda:
        ENVIRONMENT
    """Print jobs, hours, memory and disk; for jobs that have run, what they took."""
    params:
        values=studies.canonical_json(STUDY.values),
        device=lambda wildcards: expected_device(),
        at_once=lambda wildcards: jobs_at_once(),
        patterns={
            "model": MODEL,
            "logit": LOGIT,
            "pool": POOL,
            "attacked": ATTACKED,
            "benchmark": BENCHMARK,
            "collected": str(rules.collect.output.metrics),
        },
    script:
        "../scripts/plan.py"
