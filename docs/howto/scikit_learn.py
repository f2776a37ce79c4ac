# %% [markdown]
# # Use autoencoders in scikit-learn
#
# An autoencoder as a transformer or an outlier detector with `fit`, `transform` and `predict`, in pipelines,
# cross-validation and searches.
#
# Install: `pip install 'aezoo[sklearn]'`.

# %%
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aezoo.sklearn import AutoencoderDetector, AutoencoderTransformer

digits = load_digits()
x, x_test, y, y_test = train_test_split(digits.data, digits.target, train_size=500, random_state=0)

transformer = AutoencoderTransformer(n_components=8, max_epochs=30, random_state=0).fit(x)
codes = transformer.transform(x_test)
restored = transformer.inverse_transform(codes)
print(x_test.shape, "->", codes.shape, "->", restored.shape)

# %% [markdown]
# ## In a pipeline
#
# The classifier sees eight numbers for each image. The estimate is by cross-validation within the training data: the
# transformer is fitted again in each fold.

# %%
ways = {
    "autoencoder": AutoencoderTransformer(n_components=8, max_epochs=30, random_state=0),
    "PCA": PCA(n_components=8, random_state=0),
}
for name, reducer in ways.items():
    model = make_pipeline(reducer, StandardScaler(), LogisticRegression(max_iter=1000))
    inner = cross_val_score(model, x, y, cv=2).mean()
    print(
        f"{name:12} accuracy: cross-validation {inner:.3f}, test {model.fit(x, y).score(x_test, y_test):.3f}"
    )

# %% [markdown]
# ## Outliers
#
# The detector is fitted to usual samples. `predict` gives 1 for usual samples and -1 for outliers.

# %%
detector = AutoencoderDetector(max_epochs=30, random_state=0).fit(x[y == 0])
for name, rows in (("zeros", x_test[y_test == 0]), ("other digits", x_test[y_test != 0])):
    print(f"{(detector.predict(rows) == -1).mean():.0%} of {len(rows)} {name} are outliers")

# %% [markdown]
# ## A network of your own, and searches
#
# `spec` is any variant: its name, a file or a spec. Its values are parameters, named by their paths.

# %%
from sklearn.model_selection import GridSearchCV

from aezoo.sklearn import default_spec

search = GridSearchCV(
    AutoencoderTransformer(default_spec(64), max_epochs=10, random_state=0),
    {"spec__encoder__1__out_features": [2, 8], "spec__encoder__0__activation": ["gelu", "tanh"]},
    cv=2,
)
search.fit(x)
print(search.best_params_)

# %% [markdown]
# ## Save

# %%
transformer.save("digits-8", overwrite=True)
again = AutoencoderTransformer.load("digits-8")
print("same:", bool((again.transform(x_test) == codes).all()))

# %% [markdown]
# ## Your own data
#
# X is an array or a data frame, (samples, features), without missing values. Encode text with scikit-learn's
# `OneHotEncoder(sparse_output=False)` in a `ColumnTransformer` before. Images are flattened: `images.reshape(n, -1)`.
#
# - **Few rows.** With less than some hundred rows, PCA is often as good, and takes no time.
# - **Standardize once.** The estimators standardize each feature themselves. A `StandardScaler` before them changes nothing.
# - **More latents is better** for the score of a search, always. Search over other values, or choose the number by the score
#   of what follows in the pipeline.
# - **Time.** Each fit is a training. `max_epochs` limits it; `cross_val_score(..., n_jobs=...)` runs several at once.
#
# Reference: [scikit-learn estimators](../sklearn.md), with how good the defaults are.
