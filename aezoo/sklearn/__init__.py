"""Autoencoders as scikit-learn estimators: `AutoencoderTransformer` and `AutoencoderDetector`.

    from aezoo.sklearn import AutoencoderTransformer

    codes = AutoencoderTransformer(n_components=4).fit_transform(X)

Needs scikit-learn 1.6.1 or later: `pip install 'aezoo[sklearn]'`.
"""

from aezoo.sklearn.detector import AutoencoderDetector
from aezoo.sklearn.parameters import default_spec
from aezoo.sklearn.transformer import AutoencoderTransformer

__all__ = ["AutoencoderDetector", "AutoencoderTransformer", "default_spec"]
