"""``fanin recipes``."""

from fanin.recipes.recipe_files import load_recipe, shipped_recipes


def test_the_list(invoke):
    outcome = invoke("recipes")
    assert outcome.code == 0
    assert [line.split()[0] for line in outcome.out.splitlines()[2:] if line] == shipped_recipes()


def test_a_printed_recipe_is_the_same_recipe(invoke, tmp_path):
    for name in shipped_recipes():
        (tmp_path / "printed.yaml").write_text(invoke("recipes", name).out, encoding="utf-8")
        assert load_recipe(tmp_path / "printed.yaml") == load_recipe(name)


def test_an_unknown_recipe(invoke):
    outcome = invoke("recipes", "defualt")
    assert outcome.code == 2
    assert "did you mean 'default'" in outcome.err
