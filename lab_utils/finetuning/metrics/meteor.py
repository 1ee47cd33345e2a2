"""METEOR as an `evaluate` metric that needs no download: nltk does the matching, no WordNet."""

from types import SimpleNamespace

import datasets
import evaluate
from nltk.translate.meteor_score import single_meteor_score

from lab_utils.finetuning.metrics import words

# in the place of WordNet, which would have to be downloaded
NO_SYNONYMS = SimpleNamespace(synsets=lambda word: [])


class Meteor(evaluate.Metric):
    """Mean METEOR (Banerjee and Lavie 2005), between 0 and 1, with exact and Porter-stem matches
    only.

    Recall counts nine times as much as precision, and a penalty of at most a half says into how
    many chunks the matches fall. It is not METEOR 1.5, the tool behind most papers: no synonyms, no
    paraphrases, other weights, and nltk's simple alignment, which takes the last free match of each
    word. Compare its values with each other only.
    """

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="Banerjee and Lavie 2005, METEOR",
            inputs_description="texts",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions, references):
        scores = [
            single_meteor_score(words(r), words(p), wordnet=NO_SYNONYMS)
            for p, r in zip(predictions, references)
        ]
        return {"meteor": sum(scores) / len(scores)}
