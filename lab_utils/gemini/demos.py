"""Live demos of lab 08: step through a simulated tuning job, and find from how many questions on
tuning pays.
"""

import functools

import ipywidgets

from lab_utils.drawing.live import Demo, live, wide
from lab_utils.drawing.style import Picture
from lab_utils.gemini.pictures import break_even_picture, job_picture
from lab_utils.gemini.rows import break_even_questions, tuning_cost
from lab_utils.gemini.simulated import simulate

EVENTS = {
    "nothing": {},
    "cancelled at step 1": {1: "cancel"},
    "cancelled at step 3": {3: "cancel"},
    "bad row at step 2": {2: "bad row"},
    "bad row at step 4": {4: "bad row"},
}
STEPS = 8


def draw_job(
    step: int, epochs: int, happens: str, tokens: int, dollars_per_million: float
) -> Picture:
    """A simulated job at a step; `happens` is a name of EVENTS, `tokens` those of the file."""
    return job_picture(simulate(epochs, tokens, EVENTS[happens], STEPS), step, dollars_per_million)


def job_demo(
    tokens: int, dollars_per_million: float, step: int = 0, happens: str = "nothing"
) -> Demo:
    """Step through a job: it runs to its end, is cancelled, or meets a bad row. SIMULATED, as its
    banner says. It begins at `step` of a job to which `happens` happens.
    """
    return live(
        functools.partial(draw_job, tokens=tokens, dollars_per_million=dollars_per_million),
        step=wide(ipywidgets.IntSlider(step, 0, STEPS, description="step")),
        epochs=wide(ipywidgets.IntSlider(3, 1, 5, description="epochs")),
        happens=wide(
            ipywidgets.Dropdown(options=list(EVENTS), value=happens, description="what happens")
        ),
    )


def draw_break_even(
    shots: int,
    epochs: int,
    file_tokens: int,
    shot_tokens: float,
    base_tokens: float,
    answer_tokens: float,
    tuning_price: float,
    input_price: float,
    output_price: float,
) -> Picture:
    """`shots` examples in every prompt against tuning on the file. Tokens are means, prices dollars
    per million.

    `base_tokens` (system instruction and question) and `answer_tokens` are paid either way.
    """
    tuning = tuning_cost(file_tokens, epochs, tuning_price)
    either_way = (base_tokens * input_price + answer_tokens * output_price) / 1e6
    examples = shots * shot_tokens
    questions = break_even_questions(tuning, examples, input_price)
    return break_even_picture(
        tuning, either_way + examples * input_price / 1e6, either_way, questions, shots
    )


def break_even_demo(shots: int = 10, epochs: int = 3, **numbers: float) -> Demo:
    """Move the examples in the prompt, and the epochs: where do the lines meet? `numbers` are those
    of `draw_break_even`.
    """
    return live(
        functools.partial(draw_break_even, **numbers),
        shots=wide(ipywidgets.IntSlider(shots, 0, 50, description="examples in prompt")),
        epochs=wide(ipywidgets.IntSlider(epochs, 1, 10, description="epochs")),
    )
