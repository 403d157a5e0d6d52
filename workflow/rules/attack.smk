"""Attacks: every target of a group with the shadow pool of one attacker.

Whatever the protocol, the shadows of a target are the models of the attacker's pool
whose pair of splits is not the target's.
"""


rule attack_leave_one_out:
    """Every model of the pool is a target."""
    input:
        targets=POOL,
        shadows=attacker_pool,
    output:
        tuples=expand(
            f"{ATTACKED}/leave-one-out/{{run}}.{{part}}.parquet",
            run=run_names(STUDY.targets(studies.LEAVE_ONE_OUT)),
            part=PARTS,
            allow_missing=True,
        ),
        group=f"{ATTACKED}/leave-one-out.group.parquet",
        curves=f"{ATTACKED}/leave-one-out.curves.parquet",
    log:
        f"{LOG}/attack/{{technique}}/{{attacker}}-{{checkpoint}}-leave-one-out.log",
    benchmark:
        f"{BENCHMARK}/attack/{{technique}}/{{attacker}}-{{checkpoint}}-leave-one-out.tsv"
    conda:
        ENVIRONMENT
    resources:
        **asks(lambda wildcards: study_costs().attack(names.LEAVE_ONE_OUT)),
        **NO_GPU,
    params:
        study=STUDY.name,
        protocol=names.LEAVE_ONE_OUT,
        shadows=attacker_pool,
        settings=STUDY.attack_settings(),
        code=CODE["attack"],
    script:
        "../scripts/attack.py"


rule attack_fixed_split:
    """Targets that share one split and differ in their seed."""
    input:
        targets=expand(LOGIT, run=run_names(STUDY.fixed_runs), allow_missing=True),
        signals=signals_of(STUDY.fixed_runs),
        shadows=attacker_pool,
    output:
        tuples=expand(
            f"{ATTACKED}/fixed-split/{{run}}.{{part}}.parquet",
            run=run_names(STUDY.fixed_runs),
            part=PARTS,
            allow_missing=True,
        ),
        group=f"{ATTACKED}/fixed-split.group.parquet",
        curves=f"{ATTACKED}/fixed-split.curves.parquet",
    log:
        f"{LOG}/attack/{{technique}}/{{attacker}}-{{checkpoint}}-fixed-split.log",
    benchmark:
        f"{BENCHMARK}/attack/{{technique}}/{{attacker}}-{{checkpoint}}-fixed-split.tsv"
    conda:
        ENVIRONMENT
    resources:
        **asks(lambda wildcards: study_costs().attack(names.FIXED_SPLIT)),
        **NO_GPU,
    params:
        study=STUDY.name,
        protocol=names.FIXED_SPLIT,
        shadows=attacker_pool,
        runs=run_names(STUDY.fixed_runs),
        settings=STUDY.attack_settings(),
        code=CODE["attack"],
    script:
        "../scripts/attack.py"


SCORES = tuple_files("scores")
