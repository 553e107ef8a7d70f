"""Plans of several processes: each holds what its part of the classifier takes, and machines are counted whole."""

import pytest

from fanin.classifier.sharded import ShardedClassifier
from fanin.errors import ConfigError
from fanin.memory import classifier_parts, encoder_parts
from fanin.memory.check import over_budget
from fanin.memory.data_sizes import assumed_sizes
from fanin.memory.other_teams import other_team
from fanin.memory.parts import Part, Stage
from fanin.memory.plan import MemoryPlan, plan_memory
from fanin.memory.planned_run import PlannedRun
from fanin.memory.stages import TO_A_FILE, TO_THE_FIRST, TO_THE_MODEL
from fanin.memory.team import Team
from fanin.memory.ways_out import ways_out
from fanin.processes.group import Processes
from fanin.processes.spread import CHUNK_BYTES
from fanin.recipes.recipe_files import changed_recipe, load_recipe
from fanin.training.assemble_classifier import lay_out_classifier

L, BASE = 1003, 300 << 20
SMALL = ("encoder.out_features=32", "encoder.embedding_dim=16", "encoder.block_width=24")
CLASSIFIERS = {
    "plain": ("classifier.fan_in=8",),
    "groups and clusters": ("classifier.fan_in=8", "classifier.group_size=16", "classifier.cluster_size=8"),
    "bands": ("classifier.fan_in=8", "classifier.fan_in_by_frequency=[{share: 0.1, fan_in: 16}]"),
    "dense": ("classifier={kind: dense}",),
    "head and tail": ("classifier={kind: head_tail, fan_in: 8}",),
}


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_first_process_has_the_largest_part_and_it_is_counted_exactly(name, size):
    recipe = load_recipe("plain", [*SMALL, *CLASSIFIERS[name]])
    encoder = encoder_parts.lay_out_encoder(recipe, assumed_sizes(L, L, recipe))
    related = name in ("groups and clusters", "bands", "head and tail")

    def held(rank):
        one = Processes(rank, size, transport=...)
        own = lay_out_classifier(recipe.classifier, encoder, L, 0, ordered=related, processes=one)
        assert isinstance(own, ShardedClassifier)
        places = 0 if own.order is None else own.order.inner.nbytes
        return places + sum(tensor.nbytes for tensor in own.state_dict().values())

    planned = classifier_parts.lay_out(recipe.classifier, encoder, L, size)
    counted = sum(part.bytes for part in classifier_parts.weight_parts(planned))
    assert counted == held(0) >= max(held(rank) for rank in range(1, size))
    state = classifier_parts.moment_bytes(planned, recipe.classifier.update)
    assert state == 2 * sum(4 * parameter.numel() for parameter in planned.parameters())


def parts_of(plan, stage):
    return {part.name: part.bytes for part in next(one for one in plan.training if one.name == stage).parts}


def test_labels_are_shared_and_what_all_need_is_not():
    recipe = load_recipe("plain", ["auxiliary={labels_per_cluster: 32}"])
    alone, found = (plan_memory(recipe, assumed_sizes(1_200_000, 50_000, recipe), BASE, team=Team(n)) for n in (1, 4))
    before, after = (parts_of(plan, "training") for plan in (alone, found))
    shared = {name for name in before if name.startswith("classifier") or name == "auxiliary objective's update state"}
    assert len(shared) == 5
    for name in shared:
        assert after[name] == before[name] // 4
    for name in before.keys() - shared - {"activations", "auxiliary objective", "buffers of the classifier's step"}:
        assert after[name] == before[name]
    assert after["activations"] < before["activations"]
    assert found.prediction == alone.prediction
    assert parts_of(found, "saving")[TO_A_FILE] <= CHUNK_BYTES


def test_what_is_there_once_is_counted_once_a_machine():
    parts = (Part("rows", 100), Part("metrics", 50, once=True), Part("data", 30, mapped=True), Part("x", 9, gpu=True))
    plan = MemoryPlan((Stage("validation", parts),), Stage("prediction", parts), team=Team(8, 4))
    assert (plan.needed, plan.machine_needed, plan.limited) == (150, 450, 450)
    assert plan.as_dict()["machine_needed_bytes"] == 450
    assert MemoryPlan(plan.training, plan.prediction, gpu=True, team=Team(8, 4)).limited == 9


def test_on_gpus_labels_are_shared_there_and_little_passes_through_the_machine():
    """Between a GPU and a file shared tensors go a chunk at a time, and on the way to the GPU each its own rows."""
    recipe = load_recipe("plain")
    sizes = assumed_sizes(3_000_000, 50_000, recipe)
    alone, found = (plan_memory(recipe, sizes, BASE, gpu=True, team=Team(n, n)) for n in (1, 4))
    on_gpu = {part.name for part in found.training[-4].parts if part.gpu}
    assert on_gpu >= {"classifier weights", "classifier's update state", "embedding table", "CUDA and its libraries"}
    assert found.limited == found.gpu_peak.gpu_bytes < 0.5 * alone.limited
    saving, saving_alone = (parts_of(plan, "saving") for plan in (found, alone))
    assert saving[TO_THE_FIRST] == CHUNK_BYTES
    assert parts_of(found, "training")["embedding table"] < saving[TO_A_FILE] < saving_alone[TO_A_FILE]
    coming = parts_of(found, "taking up the kept model")
    learned = [size for name, size in coming.items() if name.startswith(("classifier ", "encoder", "embedding"))]
    assert coming[TO_THE_MODEL] == sum(learned) < parts_of(alone, "scoring the kept model")[TO_THE_MODEL]


@pytest.mark.parametrize("team", [Team(2, 1), Team(4, 2)])
def test_ways_out_do_what_they_say(team):
    recipe = load_recipe("default")
    sizes = assumed_sizes(2_000_000, 100_000, recipe)
    now = plan_memory(recipe, sizes, BASE, team=team)
    budget = int(0.9 * now.limited)
    ways = ways_out(PlannedRun(recipe, sizes, BASE, team=team), budget)
    assert ways
    for way in ways:
        again = plan_memory(changed_recipe(recipe, way.settings), sizes, BASE, team=team)
        assert way.needed == again.machine_needed <= budget


@pytest.mark.parametrize(("team", "share"), [(Team(1, 1), 0.6), (Team(3, 1), 0.8), (Team(4, 2), 0.9)])
def test_more_machines_are_as_few_as_it_takes(team, share):
    recipe = load_recipe("plain")
    sizes = assumed_sizes(5_000_000, 100_000, recipe)
    now = plan_memory(recipe, sizes, BASE, team=team)
    budget = int(share * now.machine_needed)
    other = other_team(PlannedRun(recipe, sizes, BASE, team=team), budget)
    assert plan_memory(recipe, sizes, BASE, team=other.team).machine_needed == other.needed <= budget
    assert other.team.machines >= team.machines
    fewer = Team(other.team.size - other.team.on_machine, other.team.on_machine)
    assert fewer.size <= team.size or plan_memory(recipe, sizes, BASE, team=fewer).machine_needed > budget


def test_fewer_processes_on_as_many_machines_may_be_enough():
    recipe = load_recipe("plain")
    sizes = assumed_sizes(1_000_000, 100_000, recipe)
    many, few = (plan_memory(recipe, sizes, BASE, team=Team(n, n)).machine_needed for n in (8, 4))
    other = other_team(PlannedRun(recipe, sizes, BASE, team=Team(8, 8)), (many + few) // 2)
    assert other.team == Team(4, 4)
    assert str(other).startswith("4 processes on one machine, instead of 8 processes on one machine: ")


def test_more_gpus():
    recipe = load_recipe("plain")
    sizes = assumed_sizes(10_000_000, 100_000, recipe)
    other = other_team(PlannedRun(recipe, sizes, BASE, gpu=True, team=Team(2, 2)), 2 << 30)
    fewer = other.team._replace(size=other.team.size - 1)
    assert plan_memory(recipe, sizes, BASE, gpu=True, team=other.team).limited == other.needed <= 2 << 30
    assert plan_memory(recipe, sizes, BASE, gpu=True, team=fewer).limited > 2 << 30
    message = str(
        over_budget(PlannedRun(recipe, sizes, BASE, gpu=True, team=Team(2, 2)), 9 << 30, 2 << 30, "the budget")
    )
    assert "needs about 9.0 GiB of memory on the GPU of each of 2 processes; 2.0 GiB are the budget" in message
    assert message.endswith(str(other))


def test_what_only_more_processes_can_do_is_told_so():
    recipe = load_recipe("plain", ["classifier={kind: dense, update: {kind: sgd}}", "encoder.out_features=512"])
    sizes = assumed_sizes(10_000_000, 100_000, recipe)
    team = Team(2, 1)
    message = str(over_budget(PlannedRun(recipe, sizes, BASE, team=team), 20 << 30, 3 << 30, "the budget"))
    assert "needs about 20.0 GiB of memory on the machine of each of 2 processes" in message
    assert ", one on each of " in message.splitlines()[-1]
    baseline = load_recipe("bottleneck")
    assert other_team(PlannedRun(baseline, assumed_sizes(10**7, 1000, baseline), BASE, team=Team()), 1 << 30) is None
    with pytest.raises(ConfigError, match="a baseline for one process"):
        plan_memory(baseline, assumed_sizes(10**6, 1000, baseline), BASE, team=team)


def test_no_number_of_processes_helps_against_what_each_has():
    recipe = load_recipe("plain")
    assert other_team(PlannedRun(recipe, assumed_sizes(10_000, 1000, recipe), BASE, team=Team(2, 2)), BASE // 2) is None
