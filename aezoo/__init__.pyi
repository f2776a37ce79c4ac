from aezoo.autoencoder import Autoencoder as Autoencoder
from aezoo.autoencoder import Batch as Batch
from aezoo.autoencoder import Output as Output
from aezoo.autoencoder import Source as Source
from aezoo.builder import build as build
from aezoo.checkpoint import save as save
from aezoo.demonstration import demo as demo
from aezoo.demonstration import sample_digits as sample_digits
from aezoo.documents import json_schema as json_schema
from aezoo.documents import read_spec as read_spec
from aezoo.documents import to_yaml as to_yaml
from aezoo.errors import (
    AdviceWarning as AdviceWarning,
)
from aezoo.errors import (
    AezooError as AezooError,
)
from aezoo.errors import (
    CheckpointError as CheckpointError,
)
from aezoo.errors import (
    DataError as DataError,
)
from aezoo.errors import (
    HubError as HubError,
)
from aezoo.errors import (
    LayerError as LayerError,
)
from aezoo.errors import (
    MissingExtraError as MissingExtraError,
)
from aezoo.errors import (
    NotSupportedError as NotSupportedError,
)
from aezoo.errors import (
    PluginWarning as PluginWarning,
)
from aezoo.errors import (
    RegistryError as RegistryError,
)
from aezoo.errors import (
    SpecError as SpecError,
)
from aezoo.errors import (
    TrainingError as TrainingError,
)
from aezoo.errors import (
    TrainingInterrupted as TrainingInterrupted,
)
from aezoo.errors import (
    UnknownVariantError as UnknownVariantError,
)
from aezoo.evaluation import (
    Meter as Meter,
)
from aezoo.evaluation import (
    Metric as Metric,
)
from aezoo.evaluation import (
    NotMeasured as NotMeasured,
)
from aezoo.evaluation import (
    evaluate as evaluate,
)
from aezoo.families import Spec as Spec
from aezoo.fitting import Callback as Callback
from aezoo.fitting import TrainingState as TrainingState
from aezoo.hookspecs import PLUGIN_API as PLUGIN_API
from aezoo.hookspecs import hookimpl as hookimpl
from aezoo.plots import reconstructions as reconstructions
from aezoo.protocols import run_protocol as run_protocol
from aezoo.publishing import pull as pull
from aezoo.publishing import push as push
from aezoo.registry import contributors as contributors
from aezoo.registry import load_plugin_file as load_plugin_file
from aezoo.registry import register as register
from aezoo.samples import Rows as Rows
from aezoo.samples import Samples as Samples
from aezoo.samples import pairs as pairs
from aezoo.specs import (
    ActivationSpec as ActivationSpec,
)
from aezoo.specs import (
    AutoencoderSpec as AutoencoderSpec,
)
from aezoo.specs import (
    CallbackSpec as CallbackSpec,
)
from aezoo.specs import (
    DatasetSpec as DatasetSpec,
)
from aezoo.specs import (
    LayerSpec as LayerSpec,
)
from aezoo.specs import (
    LossSpec as LossSpec,
)
from aezoo.specs import (
    MetricSpec as MetricSpec,
)
from aezoo.specs import (
    NoiseSpec as NoiseSpec,
)
from aezoo.specs import (
    RecipeSpec as RecipeSpec,
)
from aezoo.specs import (
    TensorSpec as TensorSpec,
)
from aezoo.specs import (
    VariantSpec as VariantSpec,
)
from aezoo.stack import Exact as Exact
from aezoo.stack import Mean as Mean
from aezoo.stack import Stack as Stack
from aezoo.trainable import validate as validate
from aezoo.training import train as train
from aezoo.transforms import Transforms as Transforms
from aezoo.zoo import (
    get_entry as get_entry,
)
from aezoo.zoo import (
    get_spec as get_spec,
)
from aezoo.zoo import (
    list_variants as list_variants,
)
from aezoo.zoo import (
    load as load,
)

__version__: str
