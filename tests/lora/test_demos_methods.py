"""Demos of lab 07, driven as a browser would: choose, type, press, read. No browser and no model
needed.
"""

import pytest

from lab_utils.lora.demos import NOBODY, VoiceChat, axes_demo, blend_demo
from lab_utils.lora.pictures import axes_picture

SHARES = {
    name: {"few parameters": i / 3, "good answers": 1 - i / 3}
    for i, name in enumerate(("full", "LoRA", "IA3", "DoRA"))
}
EXAMPLES = ["Where is Feta from?", "What is Brie?"]


# ---------------------------------------------------------------------------------------- five axes
def test_chosen_methods_come_first_and_can_be_changed():
    demo = axes_demo(SHARES, ["full", "LoRA"])
    assert demo.picture.value == axes_picture(SHARES, ["full", "LoRA"])
    demo.controls["second_method"].value = "DoRA"
    demo.controls["third_method"].value = "IA3"
    assert demo.picture.value == axes_picture(SHARES, ["full", "DoRA", "IA3"])
    for control in demo.controls.values():
        control.value = NOBODY
    assert demo.picture.value == axes_picture(SHARES, [])
    assert [control.description for control in demo.controls.values()] == [
        "first method",
        "second method",
        "third method",
    ]


# --------------------------------------------------------------------------------------- the voices
@pytest.fixture
def asked():
    return []


@pytest.fixture
def chat(asked):
    made = VoiceChat(
        lambda voice, question: asked.append((voice, question)) or f"{voice} says {question}!",
        ["base", "pavlos", "terse"],
        EXAMPLES,
    )
    assert asked == [("base", EXAMPLES[0])], (
        "the first example is answered at once, by the first voice"
    )
    asked.clear()
    return made


def test_another_voice_answers_the_same_question(chat, asked):
    chat.voice.value = "terse"
    assert (
        asked == [("terse", EXAMPLES[0])] and "terse says Where is Feta from?!" in chat.answer.value
    )


def test_another_question_goes_to_the_same_voice(chat, asked):
    chat.voice.value = "pavlos"
    chat.box.value = "What is Gouda?"
    chat.examples[1].click()
    assert asked == [("pavlos", EXAMPLES[0]), ("pavlos", "What is Gouda?"), ("pavlos", EXAMPLES[1])]
    assert chat.box.value == EXAMPLES[1] and "pavlos says What is Brie?!" in chat.answer.value
    assert chat.box.continuous_update is False, "not at every key"


def test_what_is_there_already_is_not_asked_again(chat, asked):
    chat.examples[0].click()
    chat.voice.value = "base"
    assert asked == []


def test_everything_is_on_the_page_and_labelled(chat):
    shown = []

    def walk(widget):
        shown.append(widget)
        for child in getattr(widget, "children", ()):
            walk(child)

    walk(chat)
    assert all(widget in shown for widget in (chat.voice, chat.box, chat.answer, *chat.examples))
    assert chat.voice.description == "Voice" and chat.voice.options == ("base", "pavlos", "terse")
    assert len(chat.voice.tooltips) == 3 and all(button.tooltip for button in chat.examples)


def test_a_value_error_is_said_kindly_and_others_are_not_swallowed():
    def picky(voice, question):
        if voice == "broken":
            raise RuntimeError("CUDA is out of memory")
        if "long" in question:
            raise ValueError("the question has 900 tokens: ask a <shorter> question")
        return "Fine."

    chat = VoiceChat(picky, ["base", "broken"], EXAMPLES)
    chat.box.value = "a long question"
    assert (
        "ask a &lt;shorter&gt; question" in chat.answer.value
        and "ValueError" not in chat.answer.value
    )
    chat.box.value = "short"
    assert "Fine." in chat.answer.value, "and the chat goes on"
    with pytest.raises(RuntimeError, match="out of memory"):
        chat.voice.value = "broken"


def test_questions_run_nothing(chat):
    chat.box.value = '<script>alert("x")</script>'
    assert "<script" not in chat.answer.value


# ---------------------------------------------------------------------------------------- the blend
def test_the_slider_blends_and_asks():
    asked = []
    demo = blend_demo(
        lambda weight, question: asked.append((weight, question)) or "Both!",
        ("pavlos", "auctioneer"),
        EXAMPLES[0],
    )
    assert asked == [(0.5, EXAMPLES[0])]
    assert "0.5 pavlos + 0.5 auctioneer:" in demo.picture.value and "Both!" in demo.picture.value
    demo.controls["weight"].value = 0.8
    demo.controls["question"].value = EXAMPLES[1]
    assert (
        asked[1:] == [(0.8, EXAMPLES[0]), (0.8, EXAMPLES[1])]
        and "0.2 pavlos + 0.8 auctioneer:" in demo.picture.value
    )
    assert (demo.controls["weight"].min, demo.controls["weight"].max) == (0, 1)
    assert not demo.controls["weight"].continuous_update, "a model answers: not at every pixel"


def test_real_adapters_are_swapped_and_blended(tiny_base, tmp_path):
    from method_models import config, shaken

    from lab_utils.finetuning.training import save_adapter
    from lab_utils.lora import adapters, methods

    folders = {}
    for seed, name in enumerate(("one", "two")):
        model, tokenizer = methods.load_for_method(config("lora"), source=tiny_base)
        folders[name] = save_adapter(
            methods.FinetuneResult(shaken(model, seed), tokenizer), tmp_path / name
        )
    model, tokenizer = adapters.load_adapters(folders, source=tiny_base)

    def ask(weight, question):
        adapters.blend(model, {"one": 1 - weight, "two": weight})
        return adapters.answer_as(model, tokenizer, "blend", [question], max_new_tokens=6)[0].text

    demo = blend_demo(ask, ("one", "two"), EXAMPLES[0])
    chat = VoiceChat(
        lambda voice, question: (
            adapters.answer_as(model, tokenizer, voice, [question], max_new_tokens=6)[0].text
        ),
        ["one", "two"],
        EXAMPLES,
    )
    for weight, voice in ((0.0, "one"), (1.0, "two")):
        demo.controls["weight"].value, chat.voice.value = weight, voice
        said = [box.split("</b>")[-1] for box in (demo.picture.value, chat.answer.value)]
        assert said[0] == said[1], "all of one voice is that voice"
