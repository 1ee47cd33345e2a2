"""Quizzes with feedback: questions, what each answer says about its reader, and the two quizzes of
lab 00.

A quiz is for thinking, not for marks: nothing is stored or sent.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """A question; `options` maps each answer to what to say to somebody who chose it; `right` is
    one of them.
    """

    text: str
    right: str
    options: dict[str, str]

    def __post_init__(self) -> None:
        if self.right not in self.options:
            raise ValueError(f"right is {self.right!r}: it must be one of {list(self.options)}.")
        if len(self.options) < 2:
            raise ValueError(f"{self.text!r} has {len(self.options)} answers: give at least two.")


def feedback(question: Question, chosen: str) -> tuple[bool, str]:
    """(is it right, what to say). Raises ValueError for an answer that is not offered."""
    if chosen not in question.options:
        raise ValueError(f"{chosen!r} is no answer here: expected one of {list(question.options)}.")
    return chosen == question.right, question.options[chosen]


def score(questions: tuple[Question, ...], chosen: list[str | None]) -> tuple[int, int]:
    """(right answers, answers given); None stands for a question that is still open."""
    given = [
        (question, answer)
        for question, answer in zip(questions, chosen, strict=True)
        if answer is not None
    ]
    return sum(feedback(question, answer)[0] for question, answer in given), len(given)


BEFORE = (
    Question(
        "A language model was just made: random weights, 2,048 tokens. What is its loss on the "
        "first batch, in nats per token?",
        "about 7.6",
        {
            "0": "A loss of 0 would mean that it knows every next token for sure.",
            "about 1": "That is a model that has learnt a lot. This one has learnt nothing yet.",
            "about 7.6": "It can only guess: each token has probability 1/2048, and -ln(1/2048) = "
            "7.6.",
            "about 2048": "The loss is a logarithm: ln 2048, not 2048.",
        },
    ),
    Question(
        "You put three worked examples into the prompt. How much of the model's weights has "
        "changed afterwards?",
        "nothing",
        {
            "nothing": "Right: in-context learning is gone with the prompt. The lecture calls it "
            "ephemeral.",
            "a little, in all layers": "No step of an optimizer was taken, so no weight has moved.",
            "the last layer": "No weight moves while a model only reads and answers.",
        },
    ),
    Question(
        "Full fine-tuning of 10 billion parameters in FP16 with Adam, short texts. What takes the "
        "most memory?",
        "Adam's two states",
        {
            "the weights": "20 GB; there is something four times as large.",
            "the gradients": "As large as the weights, 20 GB; there is something four times as "
            "large.",
            "Adam's two states": "Right: two float32 numbers for each parameter, 8 bytes against "
            "the weight's 2.",
            "the activations": "With long texts they can be large. With short ones something else "
            "wins.",
        },
    ),
    Question(
        "LoRA trains 1 % of the parameters. What happens to the memory of the activations?",
        "hardly anything",
        {
            "it falls to 1 %": "Gradients and Adam's states do. But the backward pass still "
            "goes through every layer.",
            "it falls to a half": "Less happens than that: the backward pass still goes through "
            "every layer.",
            "hardly anything": "Right. It still goes through every layer, and most of what it "
            "needs there is the same.",
        },
    ),
    Question(
        "QLoRA stores the weights in 4 bits. In which numbers does it multiply?",
        "16 or 32 bits",
        {
            "4 bits": "The codes are only for storing: each weight is dequantized first.",
            "8 bits": "8 bits hold the constants of the blocks; weights are dequantized to wider "
            "numbers.",
            "16 or 32 bits": "Right: 4 bits are for storage, 16 or 32 for computing.",
        },
    ),
)

AFTER = (
    Question(
        "A fresh model of 32,000 tokens should start at a loss of 10.4. Yours starts at 0.02. "
        "What is likely?",
        "each token predicts itself: nothing was shifted",
        {
            "a good initialization": "No initialization knows the text.",
            "each token predicts itself: nothing was shifted": "Right: the input holds the "
            "answer. That loss teaches nothing.",
            "the learning rate is too high": "Before the first step the learning rate has done "
            "nothing yet.",
        },
    ),
    Question(
        "One example made the model speak in a known voice; five did not make it speak like "
        "Pavlos. Why?",
        "a prompt chooses among what the model can do already",
        {
            "five examples are too few": "The curve is flat: with such a small model more of the "
            "same does not help.",
            "a prompt chooses among what the model can do already": "Right: his words were never "
            "learnt. Weights had to move.",
            "the context is full": "The longest prompt here has fewer than 300 of 512 positions.",
        },
    ),
    Question(
        "Full fine-tuning of 7 billion parameters: bf16 weights and gradients, float32 Adam, "
        "float32 master copy. How many GB?",
        "112",
        {
            "28": "Weights and gradients alone. Add 8 bytes for Adam and 4 for the master copy.",
            "84": "12 bytes for each parameter; the master copy takes 4 more.",
            "112": "Right: 2 + 2 + 8 + 4 = 16 bytes for each of 7 billion.",
            "56": "That is Adam alone: 8 bytes for each parameter.",
        },
    ),
    Question(
        "LoRA with 2,048 tokens is 10 GB too large for your card. What helps most?",
        "gradient checkpointing",
        {
            "half the rank": "Adapters, their gradients and states are about 1 GB together "
            "here; half of it is not 10.",
            "an 8-bit optimizer": "It keeps states of the adapters only, half a GB here: nothing "
            "much to win.",
            "gradient checkpointing": "Right: the activations are the large part, and they shrink "
            "about tenfold.",
        },
    ),
    Question(
        "After fine-tuning with LoRA some side tasks are forgotten. Are the base's weights "
        "damaged?",
        "no: with the adapter switched off everything is back",
        {
            "yes, a little": "They were frozen: not a bit of them has changed.",
            "no: with the adapter switched off everything is back": "Right. But while it is on, "
            "the model does forget.",
            "only the first layers": "All of the base was frozen.",
        },
    ),
)
