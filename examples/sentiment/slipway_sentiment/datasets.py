"""The datasets of sentiment."""

from slipway.training.dataset import Dataset

from slipway_sentiment.ratings import COLUMNS, read_ratings
from slipway_sentiment.sentences import SEED, synthetic_sentences

_RATINGS = (
    "https://raw.githubusercontent.com/cjhutto/vaderSentiment/44fc044cd877310ee8278a0eadf34bcd50d41d06/"
    "additional_resources/hutto_ICWSM_2014.tar.gz"
)

RATED_TEXTS = Dataset(
    name="rated-texts",
    title=(
        "Sentences of tweets, reviews and editorials, each rated by some twenty people: "
        "23,619 different ones"
    ),
    source=_RATINGS,
    licence="MIT (of the archive; the texts are their authors')",
    citation="Hutto C J, Gilbert E. VADER: A Parsimonious Rule-based Model for Sentiment "
    "Analysis of Social Media Text. "
    "Eighth International Conference on Weblogs and Social Media (ICWSM-14), 2014",
    subject="document",
    digest="sha256:038166daeabde111ce3a5ea136a68c7d28e8480380f41bf63f45a03d6ea434dc",
    files=("hutto_ICWSM_2014.tar.gz",),
    columns=COLUMNS,
    url=_RATINGS,
    read=read_ratings,
)

SENTENCES_SYNTHETIC = Dataset(
    name="sentences-synthetic",
    title="Synthetic: sentences with ratings",
    source=f"slipway_sentiment.sentences, seed {SEED}",
    licence="Apache-2.0",
    citation="none: made by Slipway's generator; not valid for real texts",
    subject="synthetic sentence",
    columns=COLUMNS,
    make=synthetic_sentences,
    synthetic=True,
)
