"""What each stage of a recipe trains: the whole network, layer pairs one by one, or PCA in closed form."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from torch import Tensor, nn

from aezoo.data.samples import Samples
from aezoo.errors import Problem, SpecError
from aezoo.model.autoencoder import Autoencoder, get_layer
from aezoo.specs.recipe import RecipeSpec
from aezoo.specs.stages import DescentStage, FitStage, GreedyStage
from aezoo.training.greedy import layer_pairs
from aezoo.training.pca import fit_principal_components
from aezoo.training.weight_tying import tied


@dataclass
class TrainUnit:
    """What one run of gradient descent trains: the whole autoencoder, or a layer pair of it.

    Attributes:
        ae: the autoencoder to train.
        spec: the stage.
        index: number of the unit among all units of the recipe, from 0.
        stage: number of the stage in the recipe, from 0.
        layer_pair: number of the pair in a greedy stage, from 1; 0 in other stages.
        preprocess: as in `LayerPair`.
        frozen: modules of `ae` that are not trained.
    """

    ae: Autoencoder
    spec: DescentStage
    index: int
    stage: int
    layer_pair: int = 0
    preprocess: Callable[[Tensor], Tensor] | None = None
    frozen: list[nn.Module] = field(default_factory=list[nn.Module])

    @contextmanager
    def constrained(self) -> Generator[None]:
        """Context manager that freezes and ties weights as the stage declares."""
        tie = tied(self.ae, f"recipe.stages.{self.stage}.tie") if self.spec.tie else nullcontext()
        with freeze(self.frozen), tie:
            yield

    def __str__(self) -> str:
        return f"stage {self.stage}" + (f", pair {self.layer_pair}" if self.layer_pair else "")


def train_units(
    ae: Autoencoder, recipe: RecipeSpec, samples: Samples, resumed: int | None = None
) -> Iterator[TrainUnit]:
    """Yields the units of a recipe in order. Closed-form stages run when their turn comes.

    Args:
        ae: the whole autoencoder, trained in place.
        recipe: the recipe, whose stages are followed.
        samples: the training data.
        resumed: index of the unit at which a training is resumed. Earlier units and closed forms are skipped,
            because the restored weights contain them.
    """
    index = 0
    for number, stage in enumerate(recipe.stages):
        path = f"recipe.stages.{number}"
        units: list[TrainUnit] = []
        if isinstance(stage, FitStage):
            frozen = layers_at(ae, stage.freeze, f"{path}.freeze")
            units.append(TrainUnit(ae, stage, index, number, frozen=frozen))
        elif isinstance(stage, GreedyStage):
            for n, pair in enumerate(layer_pairs(ae, stage.reconstruct == "own_input", path)):
                units.append(
                    TrainUnit(pair.ae, stage, index + n, number, n + 1, pair.preprocess, pair.frozen)
                )
        elif resumed is None or index > resumed:
            fit_principal_components(ae, samples, path)
        index += len(units)
        yield from (unit for unit in units if resumed is None or unit.index >= resumed)


@contextmanager
def freeze(modules: Iterable[nn.Module]) -> Generator[None]:
    """Context manager that excludes these modules' parameters from gradients."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def layers_at(ae: Autoencoder, paths: Iterable[str], where: str) -> list[nn.Module]:
    """Returns the layers at some paths, such as `encoder.1` or `encoder`.

    Raises:
        SpecError: there is no such layer; reported at `where`, the path of the list in the spec.
    """
    found: list[nn.Module] = []
    for index, path in enumerate(paths):
        layer = get_layer(ae, path)
        if layer is None:
            raise SpecError([Problem(f"{where}.{index}", f"there is no layer {path!r}")])
        found.append(layer)
    return found
