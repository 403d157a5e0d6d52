"""Where a study's files are: one pattern for each kind, with wildcards in braces."""


def places(folder: str) -> dict[str, str]:
    """Return the patterns of the files that jobs make, by what they are.

    Args:
        folder: of the study's results.
    """
    checkpoint = "checkpoint-{checkpoint}"
    return {
        "model": f"{folder}/models/{{technique}}/{{run}}/{checkpoint}.safetensors",
        "history": f"{folder}/models/{{technique}}/{{run}}/history.parquet",
        "logit": f"{folder}/logits/{{technique}}/{checkpoint}/{{run}}.parquet",
        "signal": f"{folder}/signals/{{signal}}/{{technique}}/{checkpoint}/{{run}}.parquet",
        "pool": f"{folder}/shadow/{{technique}}/{checkpoint}.safetensors",
        "attacked": f"{folder}/attacks/{{technique}}/attacker-{{attacker}}/{checkpoint}",
        "collected": f"{folder}/tables/metrics.parquet",
        "store": f"{folder}/state/{{technique}}/{{run}}",
        "log": f"{folder}/logs",
        "benchmark": f"{folder}/benchmarks",
        "lock": f"{folder}/.lock",
    }
