"""Attacks: every target of a group with the shadow pool of one attacker.

Whatever the protocol, the shadows of a target are the models of the attacker's pool
whose pair of splits is not the target's.
"""

PARTS = ["scores", "roc", "metrics"]


def attacker_pool(wildcards) -> str:
    """Return the shadow pool that attacks a group."""
    epoch = STUDY.attacker_checkpoint(
        wildcards.technique, wildcards.attacker, wildcards.checkpoint
    )
    return expand(POOL, technique=wildcards.attacker, checkpoint=epoch)[0]


rule attack_leave_one_out:
    """Every model of the pool is a target."""
    input:
        targets=POOL,
        shadows=attacker_pool,
    output:
        tuples=expand(
            ATTACKED + "/leave-one-out/{run}.{part}.parquet",
            run=run_names(STUDY.pool_runs),
            part=PARTS,
            allow_missing=True,
        ),
        group=ATTACKED + "/leave-one-out.group.parquet",
        curves=ATTACKED + "/leave-one-out.curves.parquet",
    params:
        study=STUDY.name,
        protocol=studies.LEAVE_ONE_OUT,
        settings=STUDY.attack_settings(),
        code=CODE["attack"],
    log:
        f"{LOG}/attack/{{technique}}/{{attacker}}-{{checkpoint}}-leave-one-out.log",
    benchmark:
        f"{BENCHMARK}/attack/{{technique}}/{{attacker}}-{{checkpoint}}-leave-one-out.tsv"
    conda:
        ENVIRONMENT
    script:
        "../scripts/attack.py"


rule attack_fixed_split:
    """Targets that share one split and differ in their seed."""
    input:
        targets=expand(LOGIT, run=run_names(STUDY.fixed_runs), allow_missing=True),
        shadows=attacker_pool,
    output:
        tuples=expand(
            ATTACKED + "/fixed-split/{run}.{part}.parquet",
            run=run_names(STUDY.fixed_runs),
            part=PARTS,
            allow_missing=True,
        ),
        group=ATTACKED + "/fixed-split.group.parquet",
        curves=ATTACKED + "/fixed-split.curves.parquet",
    params:
        study=STUDY.name,
        protocol=studies.FIXED_SPLIT,
        settings=STUDY.attack_settings(),
        code=CODE["attack"],
    log:
        f"{LOG}/attack/{{technique}}/{{attacker}}-{{checkpoint}}-fixed-split.log",
    benchmark:
        f"{BENCHMARK}/attack/{{technique}}/{{attacker}}-{{checkpoint}}-fixed-split.tsv"
    conda:
        ENVIRONMENT
    script:
        "../scripts/attack.py"


def tuple_files(part: str) -> list[str]:
    """Return one file of every attacked tuple: its scores, ROC points or metrics."""
    return [
        f"{folder}/{protocol}/{run}.{part}.parquet"
        for protocol in STUDY.protocols
        for group in STUDY.attack_groups
        for folder in expand(ATTACKED, **vars(group))
        for run in run_names(STUDY.targets(protocol))
    ]


def group_files(part: str) -> list[str]:
    """Return one file of every attacked group: its pooled estimates or curves."""
    return [
        f"{folder}/{protocol}.{part}.parquet"
        for protocol in STUDY.protocols
        for group in STUDY.attack_groups
        for folder in expand(ATTACKED, **vars(group))
    ]


SCORES = tuple_files("scores")
