"""Print the [revisions] of registry.toml as the hub has them now, for every repository that a name needs.

python tools/pin_revisions.py
"""

from huggingface_hub import HfApi

from tina_harness import registry


def main() -> None:
    """One line a repository; what the hub does not answer for is said in a comment."""
    loaded = registry.load()
    for kind, info in (("dataset", "dataset_info"), ("benchmark", "dataset_info"), ("model", "model_info")):
        for name in loaded.names(kind):
            for entry in loaded.entries[kind][name]:
                if repo := getattr(entry.spec, "repo", ""):
                    try:
                        print(f'"{repo}" = "{getattr(HfApi(), info)(repo).sha}"')
                    except Exception as error:
                        print(f"# {repo}: {str(error).splitlines()[0]}")


if __name__ == "__main__":
    main()
