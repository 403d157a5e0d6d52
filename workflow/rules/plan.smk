"""What the study will cost, before anything runs: `snakemake plan`."""


rule plan:
    """Print jobs, hours, memory and disk; for jobs that have run, what they took."""
    log:
        f"{LOG}/plan.log",
    conda:
        ENVIRONMENT
    params:
        values=studies.canonical_json(STUDY.values),
        device=lambda wildcards: expected_device(),
        at_once=lambda wildcards: jobs_at_once(),
    script:
        "../scripts/plan.py"
