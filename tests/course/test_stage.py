"""Presenter mode: every demo can be built, and every preset does what it says.

A browser presses the buttons in tests/browser/test_browse_presenting.py.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from lab_utils.__main__ import parse
from lab_utils.course import stage as presenting
from lab_utils.course.stage import DEMOS, find_demo, presets_of, stage
from lab_utils.files import LabKitError
from lab_utils.finetuning.chat import Answer
from lab_utils.memory.demos import draw_memory
from lab_utils.quantization.demos import draw_outlier

LIVE = [name for name, demo in DEMOS.items() if not demo.needs]


def press(box, label):
    """Press the preset with this label."""
    next(button for button in box.children[1].children if button.description == label).click()


def values(box):
    return {name: control.value for name, control in box.children[2].controls.items()}


def description(box):
    """What the picture says of itself; the whole of it where it is text."""
    shown = box.children[2].picture.value
    found = re.search(r'<svg[^>]*aria-label="([^"]*)"', shown)
    return found[1] if found else shown


@pytest.mark.parametrize("name", LIVE)
def test_every_preset_sets_its_controls_and_draws(name):
    box = stage(name)
    demo, start, drawn = find_demo(name), values(box), description(box)
    assert demo.title in box.children[0].value and len(demo.presets) >= 2
    assert [button.description for button in box.children[1].children] == ["start", *demo.presets]
    pictures = {drawn}
    for label, wanted in demo.presets.items():
        press(box, label)
        assert values(box) == {**start, **wanted}, label
        pictures.add(description(box))
    assert len(pictures) >= len(demo.presets), "presets that show the same are not worth a button"
    press(box, "start")
    assert values(box) == start and description(box) == drawn


def test_a_preset_shows_what_the_pure_function_draws():
    box = stage("outlier")
    press(box, "a huge one, small blocks")
    assert description(box) == draw_outlier(300.0, 8).description
    press(box, "one outlier")
    assert description(box) == draw_outlier(100.0, 32).description, "the block size began anew"
    box = stage("memory")
    press(box, "7B in 8 bits")
    assert description(box) == draw_memory(7, 8, 64, 256).description


def test_a_preset_moves_play_along_so_that_the_browser_does_not_move_it_back():
    box = stage("checkpointing")
    press(box, "in the backward pass")
    box.children[2].play.value = 34  # as the browser's copy says
    press(box, "keep everything")
    assert values(box)["step"] == box.children[2].play.value == 16


def test_a_demo_without_presets_has_no_buttons():
    assert presets_of(presenting.Demo("a:b", "c")) == {}


def test_an_unknown_demo_is_answered_with_the_known_ones():
    with pytest.raises(LabKitError, match=r"no demo 'soup'(.|\n)*outlier +What one outlier does"):
        presenting.main(parse(["demo", "soup"]))


def test_without_a_name_the_demos_are_listed(capsys):
    assert presenting.main(parse(["demo"])) == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said and demo.title in said for name, demo in DEMOS.items())


def test_the_command_serves_one_page_on_this_machine_only(monkeypatch):
    seen = {}

    def call(command, env):
        seen.update(command=command, folder=Path(env["JUPYTER_PATH"].split(os.pathsep)[0]))
        seen["notebook"] = Path(command[3]).read_text()
        seen["template"] = (
            seen["folder"] / "voila" / "templates" / "stage" / "index.html.j2"
        ).read_text()
        return 7

    monkeypatch.setattr(subprocess, "call", call)
    assert presenting.main(parse(["demo", "outlier", "--port", "9000", "--no-browser"])) == 7
    assert {"--Voila.ip=127.0.0.1", "--port=9000", "--no-browser", "--template=stage"} <= set(
        seen["command"]
    )
    assert "stage('outlier')" in seen["notebook"] and "super()" in seen["template"]
    assert not seen["folder"].exists(), "nothing is left behind"
    presenting.main(parse(["demo", "outlier"]))
    assert "--no-browser" not in seen["command"]


@pytest.mark.parametrize(
    "build, lab",
    [
        (presenting.pavlos_chat, "06"),
        (presenting.voices_chat, "07"),
        (presenting.voices_blended, "07"),
    ],
)
def test_what_a_lab_trains_asks_for_that_lab_first(tmp_path, build, lab):
    with pytest.raises(LabKitError, match=f"lab_utils run {lab}"):
        build(tmp_path)
    named = {demo.builder.split(":")[1]: demo.needs for demo in DEMOS.values()}
    assert named[build.__name__] == lab


@pytest.fixture
def voices(tmp_path, monkeypatch):
    """Folders as lab 07 leaves them, and models that say which adapter answers."""
    for name in presenting.VOICES:
        (tmp_path / "07" / name).mkdir(parents=True)
    monkeypatch.setattr(
        "lab_utils.lora.adapters.load_adapters", lambda folders: (sorted(folders), "tokenizer")
    )
    monkeypatch.setattr(
        "lab_utils.lora.adapters.answer_as",
        lambda model, _, name, asked: [Answer(f"{name}! {asked[0]}", True)],
    )
    return tmp_path


def test_the_voices_answer_with_their_adapters(voices):
    chat = presenting.voices_chat(voices)
    assert "__base__! What does Manchego" in chat.answer.value
    chat.voice.value = "terse"
    assert "terse! What does Manchego" in chat.answer.value


def test_voices_are_blended_by_weight(voices, monkeypatch):
    weights = []
    monkeypatch.setattr(
        "lab_utils.lora.adapters.blend", lambda model, given: weights.append((model, given))
    )
    demo = presenting.voices_blended(voices)
    assert weights == [(["auctioneer", "pavlos"], {"pavlos": 0.5, "auctioneer": 0.5})]
    show = presenting.preset_button(
        "all auctioneer", DEMOS["blend"].presets["all auctioneer"], demo
    )
    show.click()
    assert (
        weights[-1][1] == {"pavlos": 0.0, "auctioneer": 1.0}
        and "blend! Where does Halloumi" in demo.picture.value
    )


def test_pavlos_answers_before_and_after(tmp_path, monkeypatch):
    """Which model answers on which side; lab 06 does it with the real ones."""
    adapter = tmp_path / "06" / "pavlos-adapter"
    adapter.mkdir(parents=True)
    monkeypatch.setattr(
        "lab_utils.finetuning.base_model.load_base", lambda tier: (f"base of {tier}", "tokenizer")
    )
    monkeypatch.setattr(
        "peft.AutoPeftModelForCausalLM.from_pretrained", lambda folder: f"tuned in {folder}"
    )
    monkeypatch.setattr(
        "lab_utils.finetuning.chat.answer_questions",
        lambda model, _, asked: [Answer(f"{model}: {asked[0]}", True)],
    )
    chat = presenting.pavlos_chat(tmp_path)
    assert (
        chat.before("Hm?") == "base of cpu: Hm?" and chat.after("Hm?") == f"tuned in {adapter}: Hm?"
    )
    assert chat.answers.value.index("base of cpu: What does Manchego") < chat.answers.value.index(
        "tuned in"
    )
