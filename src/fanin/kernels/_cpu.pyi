# Every tensor is contiguous and on the CPU; results are written into the arrays that come last.
from torch import Tensor

class UpdateRule:
    rounding_key: int

class Layer:  # weight: float32, or the codes of bfloat16 as uint16 and those of float8 as uint8
    first_label: int
    def __init__(
        self, weight: Tensor, index: Tensor, bias: Tensor | None, group_size: int, in_features: int, dense_inputs: int
    ) -> None: ...

def instruction_set() -> str: ...
def sgd(learning_rate: float, momentum: float, weight_decay: float) -> UpdateRule: ...
def adamw(
    learning_rate: float, beta1: float, beta2: float, eps: float, weight_decay: float, step: int
) -> UpdateRule: ...
def forward(
    layer: Layer, x: Tensor, shared_scores: Tensor | None, cluster_size: int, logits: Tensor, threads: int
) -> None: ...
def grad_input(layer: Layer, grad: Tensor, dx: Tensor, threads: int) -> None: ...
def grad_weight(layer: Layer, grad: Tensor, x: Tensor, dw: Tensor, threads: int) -> None: ...
def train_step(
    layer: Layer,
    weight_moments: list[Tensor],
    bias_moments: list[Tensor],
    x: Tensor,
    indptr: Tensor,
    indices: Tensor,
    squared_hinge: bool,
    update: UpdateRule,
    scale: float,
    shared_scores: Tensor | None,
    cluster_size: int,
    dx: Tensor,
    shared_grad: Tensor | None,
    threads: int,
    weights: Tensor | None = None,
    margins: Tensor | None = None,
) -> float: ...
def topk(
    layer: Layer,
    x: Tensor,
    shared_scores: Tensor | None,
    cluster_size: int,
    indptr: Tensor | None,
    indices: Tensor | None,
    scores: Tensor,
    labels: Tensor,
    threads: int,
) -> None: ...

class LargestColumns:
    def __init__(self, rows: int, k: int) -> None: ...
    def add(self, products: Tensor, bias: Tensor, threads: int) -> None: ...
    def take(self, columns: Tensor) -> None: ...

def topk_among(
    layer: Layer,
    x: Tensor,
    members: Tensor,
    bounds: Tensor,
    chosen: Tensor,
    unit: int,
    vectors: Tensor | None,
    cluster_size: int,
    indptr: Tensor | None,
    indices: Tensor | None,
    scores: Tensor,
    labels: Tensor,
    threads: int,
) -> None: ...
def widen_into(codes: Tensor, out: Tensor, threads: int) -> None: ...
def round_into(values: Tensor, key: int, first_element: int, out: Tensor, threads: int) -> None: ...
def draw_index(index: Tensor, in_features: int, seed: int, threads: int, first_set: int = 0) -> None: ...
def rewire(
    layer: Layer,
    weight_moments: list[Tensor],
    limit: int,
    threshold: float,
    seed: int,
    inputs: int,
    replaced: Tensor,
    threads: int,
) -> None: ...
