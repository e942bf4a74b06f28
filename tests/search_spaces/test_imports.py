import subprocess
import sys

HEAVY = ("torch", "ray", "numpy", "pandas", "pyarrow", "trainables", "study", "analysis")


def test_search_spaces_imports_nothing_heavy():
    code = (
        "import sys, search_spaces\n"
        "search_spaces.plan_trials(search_spaces.load_spec('quickstart'))\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_everything_public_is_there_and_documented():
    import search_spaces

    for name in search_spaces.__all__:
        thing = getattr(search_spaces, name)
        if callable(thing):
            assert thing.__doc__, name
