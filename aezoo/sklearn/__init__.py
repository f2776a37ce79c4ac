"""Autoencoders as scikit-learn estimators: `AutoencoderTransformer` and `AutoencoderDetector`.

    from aezoo.sklearn import AutoencoderTransformer

    codes = AutoencoderTransformer(n_components=4).fit_transform(X)

Needs scikit-learn 1.6 or later: `pip install 'aezoo[sklearn]'`.
"""

from aezoo.sklearn.estimators import AutoencoderDetector, AutoencoderTransformer
from aezoo.sklearn.parameters import default_spec

__all__ = ["AutoencoderDetector", "AutoencoderTransformer", "default_spec"]
