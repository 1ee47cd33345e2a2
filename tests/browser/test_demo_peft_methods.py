"""The demos of lab 07 in a real browser: methods are chosen, voices switched and questions typed,
by keyboard.
"""

import pytest
from driving import picture_saying

from lab_utils.lora.pictures import axes_picture

pytestmark = pytest.mark.browser

SHARES = {
    name: {"few parameters": i / 3, "good answers": 1 - i / 3}
    for i, name in enumerate(("full", "LoRA", "IA3", "DoRA"))
}
AXES = f"from lab_utils.lora.demos import axes_demo\naxes_demo({SHARES!r}, ['full', 'LoRA'])"
CHAT = """
from lab_utils.finetuning.base_model import load_base
from lab_utils.finetuning.chat import answer_questions
from lab_utils.lora.demos import VoiceChat
model, tokenizer = load_base("cpu")
voices = {"plain": None, "sailor": "Speak like an old sailor."}
VoiceChat(lambda voice, question: answer_questions(model, tokenizer, [question],
    voices[voice])[0].text, list(voices),
          ["Where does Feta come from?", "What milk is Roquefort made from?"])
"""
BLEND = """
from lab_utils.lora.demos import blend_demo
blend_demo(lambda weight, question: f"{question} {weight:.1f} of it", ("pavlos", "auctioneer"),
    "How much?")
"""


def test_methods_are_chosen_from_the_lists(open_demo):
    page = open_demo(AXES)
    picture_saying(page, axes_picture(SHARES, ["full", "LoRA"]).description)
    page.get_by_label("second method", exact=True).select_option("DoRA")
    picture_saying(page, axes_picture(SHARES, ["full", "DoRA"]).description)
    page.get_by_label("third method", exact=True).select_option("IA3")
    assert (
        picture_saying(page, axes_picture(SHARES, ["full", "DoRA", "IA3"]).description)
        .get_by_text("IA3")
        .count()
        == 1
    )


def test_the_voice_is_switched_and_the_question_typed(open_demo):
    page = open_demo(CHAT)
    answer = page.locator("[role=status]")
    answer.get_by_text("Feta comes from Greece.").first.wait_for()
    sailor = page.get_by_role("button", name="sailor")
    sailor.focus()
    page.keyboard.press("Enter")
    answer.get_by_text("sailor:").first.wait_for()
    box = page.get_by_label("Question")
    box.fill("Where does Manchego come from?")
    box.press("Enter")
    answer.get_by_text("Spain").first.wait_for()
    box.fill("   ")
    box.press("Enter")
    answer.get_by_text("question is empty").first.wait_for()


def test_an_example_is_asked_by_keyboard(open_demo):
    page = open_demo(CHAT)
    page.get_by_role("button", name="What milk is Roquefort made from?").focus()
    page.keyboard.press("Enter")
    page.locator("[role=status]").get_by_text("sheep").first.wait_for()


def test_the_blend_follows_the_arrow_keys(open_demo):
    page = open_demo(BLEND)
    page.locator("[role=status]").get_by_text("How much? 0.5 of it").first.wait_for()
    handle = page.locator(".widget-slider").get_by_role("slider")
    handle.focus()
    for _ in range(2):
        handle.press("ArrowRight")
    page.locator("[role=status]").get_by_text("0.3 pavlos + 0.7 auctioneer:").first.wait_for()
    page.locator("[role=status]").get_by_text("How much? 0.7 of it").first.wait_for()
