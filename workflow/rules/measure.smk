"""Signals beyond logits, for each tuple of a block: only those that configured attacks need.

One file for each signal and tuple, so that another attack measures what it needs itself and
nothing again. The digest of the code is of the signal's own module.
"""

for measurement in STUDY.measurements:
    for block in STUDY.blocks:

        rule:
            name:
                f"measure_{re.sub(r'[^A-Za-z0-9]', '_', measurement.key)}_{block.name}"
            input:
                pool=rules.dataset.output.pool,
                models=block_files(MODEL, block),
            output:
                signals=block_files(signal_files(measurement), block),
            log:
                f"{LOG}/measure/{measurement.key}/{{technique}}/{block.name}.log",
            benchmark:
                f"{BENCHMARK}/measure/{measurement.key}/{{technique}}/{block.name}.tsv"
            wildcard_constraints:
                technique="|".join(map(re.escape, block.techniques)),
            conda:
                ENVIRONMENT
            threads: STUDY.values["compute"]["threads"]
            resources:
                **asks_gpu(
                    lambda wildcards, block=block, measurement=measurement: study_costs().measure(
                        block, wildcards.technique, measurement
                    )
                ),
            params:
                study=STUDY.name,
                settings=lambda wildcards, measurement=measurement: STUDY.measurement_settings(
                    measurement, wildcards.technique
                ),
                code=measurement_code(measurement),
            script:
                "../scripts/measure.py"
