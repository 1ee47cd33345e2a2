"""Which test computes each of the checked facts: of the lecture, the papers and the libraries.

The facts lie in facts.json, each with its source; what is only the word of a paper or of another
project lies in data/reference/papers.json, for the labs to read.
"""

import json
from pathlib import Path

from lab_utils.files import ROOT


def facts_of(path: Path) -> dict[str, dict]:
    return json.loads(path.read_text(encoding="utf-8"))["facts"]


PAPERS = facts_of(ROOT / "data" / "reference" / "papers.json")
FACTS = facts_of(Path(__file__).parent / "facts.json") | PAPERS

TABLE = {
    "a.int8.x": "tests/quantization/test_buckets.py::test_the_lectures_int8_row",
    "a.int8.c": "tests/quantization/test_buckets.py::test_the_lectures_int8_row",
    "a.int8.q": "tests/quantization/test_buckets.py::test_the_lectures_int8_row",
    "a.int8.dequant": "tests/quantization/test_buckets.py::test_the_lectures_int8_row",
    "a.int8.err": "tests/quantization/test_buckets.py::test_the_lectures_int8_row",
    "a.int8.err_with_deck_codes": (
        "tests/quantization/test_buckets.py::test_the_slides_own_codes_break_the_half_bucket_bound"
    ),
    "a.mat.W": "tests/quantization/test_buckets.py::test_the_lectures_matrix_with_one_scale",
    "a.mat.global_c": "tests/quantization/test_buckets.py::test_the_lectures_matrix_with_one_scale",
    "a.mat.global_int8": (
        "tests/quantization/test_buckets.py::test_the_lectures_matrix_with_one_scale"
    ),
    "a.mat.block5_absmax": (
        "tests/quantization/test_buckets.py::test_the_lectures_matrix_in_blocks_of_five"
    ),
    "a.mat.block5_c": (
        "tests/quantization/test_buckets.py::test_the_lectures_matrix_in_blocks_of_five"
    ),
    "a.mat.block5_int8": (
        "tests/quantization/test_buckets.py::test_the_lectures_matrix_in_blocks_of_five"
    ),
    "a.mat.deck_wrong_counts": (
        "tests/quantization/test_buckets.py::test_the_lectures_matrix_in_blocks_of_five"
    ),
    "a.mat.err_global": "tests/golden/test_facts.py::test_errors_of_the_lectures_matrix",
    "a.mat.err_block5": "tests/golden/test_facts.py::test_errors_of_the_lectures_matrix",
    "a.dq.deck_convention": "tests/quantization/test_double.py::test_the_lectures_constants",
    "a.dq.absmax_convention": (
        "tests/quantization/test_double.py::test_quantizing_absmax_instead_is_better"
    ),
    "a.bytes": "tests/memory/test_ledger.py::test_the_lectures_5x5_matrix",
    "a.bytes.reduction_pct": "tests/memory/test_ledger.py::test_the_lectures_70_percent",
    "b.nf4.codebook": "tests/quantization/test_buckets.py::test_nf4_codebook_equals_bitsandbytes",
    "b.nf4.offset": (
        "tests/quantization/test_buckets.py::test_the_formula_of_the_outermost_probability"
    ),
    "b.nf4.eq4_does_not_reproduce": (
        "tests/golden/test_facts.py::test_equation_4_of_the_paper_does_not_give_its_codebook"
    ),
    "b.nf4.create_normal_map_needs_scipy": (
        "tests/golden/test_facts.py::test_bitsandbytes_makes_its_codebook_with_scipy_alone"
    ),
    "b.nf4.bin_usage_gaussian_block64": (
        "tests/quantization/test_buckets.py"
        "::test_nf4_buckets_are_not_equally_full_after_absmax_scaling"
    ),
    "b.quant.gaussian_rmse_block64": (
        "tests/quantization/test_buckets.py::test_rmse_on_normal_weights"
    ),
    "b.quant.nf4_rmse_by_block": (
        "tests/quantization/test_buckets.py::test_rmse_grows_with_the_block_size"
    ),
    "a.nf4.deck_matrix_block5_mae": (
        "tests/quantization/test_buckets.py::test_nf4_on_the_lectures_matrix"
    ),
    "a.dq_bits": "tests/memory/test_ledger.py::test_bits_per_parameter_of_the_paper",
    "a.dq_gb_65b": (
        "tests/memory/test_ledger.py::test_the_saving_is_0_373_and_3_03_gigabytes_at_65b"
    ),
    "a.dq_saving_by_model_GB": "tests/memory/test_ledger.py::test_saving_by_model",
    "b.bnb.measured_bits_4096": "tests/golden/test_facts.py::test_bits_of_a_real_layer_of_4096",
    "a.lora.512x64_r8": "tests/lora/test_lora.py::test_the_lectures_example",
    "a.lora.rank_table": "tests/lora/test_lora.py::test_the_lectures_table_in_full",
    "a.lora.real_param_counts": "tests/lora/test_lora.py::test_real_models",
    "a.lora.break_even_rank_4096sq": "tests/golden/test_facts.py::test_break_even_of_a_square",
    "a.lora.gpt2_counts": "tests/golden/test_facts.py::test_gpt2_counts",
    "a.lora.decomposition_claim": "tests/lora/test_lora.py::test_any_w_is_ba_only_up_to_its_rank",
    "a.mem.full_ft_10b": "tests/memory/test_ledger.py::test_the_lectures_120_gigabytes",
    "a.mem.gpus": "tests/checking/test_lab_00.py::test_the_lectures_five_and_seven_cards",
    "a.mem.lora_10b": (
        "tests/memory/test_ledger.py::test_lora_states_are_21_gigabytes_and_activations_make_it_40"
    ),
    "a.mem.qlora_10b": "tests/golden/test_facts.py::test_qlora_states_of_ten_billion",
    "a.forward.formula": (
        "tests/golden/test_facts.py::test_the_forward_formula_and_the_decks_two_constants"
    ),
    "a.bf16_claim": "tests/golden/test_facts.py::test_a_dtype_is_chosen_apart_from_the_method",
    "a.backward_claim": (
        "tests/lora/test_lora.py::test_at_first_the_update_is_zero_and_only_b_has_a_gradient"
    ),
    "a.gemini_finetuner": (
        "tests/golden/test_facts.py::test_the_service_says_nothing_of_quantization"
    ),
    "a.gpt4_cost": "tests/golden/test_facts.py::test_a_papers_word_has_its_source",
    "a.ckpt_sqrt_n": (
        "tests/memory/test_checkpointing.py::test_the_square_root_of_n_is_the_best_segment_length"
    ),
    "b.lora.table18": "tests/lora/test_sweep.py::test_hu_et_al_tables_are_cited_and_complete",
    "b.lora.table3_e2e": "tests/lora/test_sweep.py::test_hu_et_al_tables_are_cited_and_complete",
    "b.qlora.table2_ppl": "tests/golden/test_facts.py::test_table_2_of_qlora",
    "b.qlora.table4_mmlu": "tests/golden/test_facts.py::test_means_of_qloras_table_4",
    "b.qlora.table4_means_recomputed": "tests/golden/test_facts.py::test_means_of_qloras_table_4",
    "b.qlora.table3": "tests/golden/test_facts.py::test_a_papers_word_has_its_source",
    "b.qlora.guanaco_mem_GB": (
        "tests/golden/test_facts.py::test_footprints_of_guanaco_lie_above_the_bare_codes"
    ),
    "b.qlora.training_footprint": (
        "tests/golden/test_facts.py::test_footprints_of_guanaco_lie_above_the_bare_codes"
    ),
    "b.qlora.formula_vs_paper_7b": (
        "tests/memory/test_ledger.py::test_qlora_of_the_7b_model_and_the_paper"
    ),
    "b.qlora.hparams": "tests/golden/test_facts.py::test_a_papers_word_has_its_source",
    "b.qlora.findings": (
        "tests/memory/test_ledger.py::test_qlora_of_the_65b_model_is_under_48_gigabytes"
    ),
    "b.ckpt.chen2016": "tests/golden/test_facts.py::test_a_papers_word_has_its_source",
    "b.ckpt.korthikanti": "tests/memory/test_checkpointing.py::test_korthikantis_formula_for_7b",
    "b.ckpt.korthikanti_examples_GB": (
        "tests/memory/test_checkpointing.py::test_korthikantis_formula_for_7b"
    ),
    "b.logits_fp32_GB_s2048_b1": "tests/memory/test_ledger.py::test_logits_in_float32",
    "b.bnb.facts": "tests/golden/test_facts.py::test_what_bitsandbytes_stores",
    "b.bnb.paged_lora_never_paged": "tests/memory/test_paging.py::test_ranks_that_are_never_paged",
    "b.bnb.cpu": "tests/golden/test_facts.py::test_a_cpu_quantizes_and_takes_an_8_bit_step",
    "b.peft.init": "tests/golden/test_facts.py::test_how_peft_begins",
    "b.peft.options": "tests/golden/test_facts.py::test_what_peft_can_begin_with",
    "b.peft.rslora_scaling_r8_a16": (
        "tests/lora/test_lora.py::test_rslora_scales_by_the_root_of_the_rank"
    ),
    "b.merge.random_delta_survival": (
        "tests/golden/test_facts.py::test_merging_a_small_adapter_into_4_bits_erases_it"
    ),
    "b.merge.tiny_llama_rmse": (
        "tests/finetuning/test_training.py::test_merged_into_4_bits_is_rounded_again"
    ),
    "b.trl.facts": "tests/golden/test_facts.py::test_transformers_collator_masks_every_pad_id",
    "b.tf5.facts": (
        "tests/memory/test_checkpointing.py"
        "::test_every_n_layers_checkpoints_one_layer_in_n_and_keeps_the_others"
    ),
    "b.frameworks": "tests/golden/test_facts.py::test_a_papers_word_has_its_source",
    "b.lwr": "tests/golden/test_facts.py::test_a_papers_word_has_its_source",
    "b.rank_recent": "tests/golden/test_facts.py::test_a_papers_word_has_its_source",
    "b.calculators": "tests/golden/test_facts.py::test_a_papers_word_has_its_source",
    "b.determinism.cpu": (
        "tests/finetuning/test_training.py::test_the_same_seed_gives_the_same_losses"
    ),
}
