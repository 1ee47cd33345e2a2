"""Sizes of real models, as their public model cards and configurations give them: numbers only.

Each entry is (name of the card, fields of its config.json that are not the type's defaults or that
decide a size, parameters of the language model). Parameters are the published ones: the total of
the weights' files, a tied head counted once; where a card also has a vision tower or a layer for
predicting more tokens, without it.
"""

from typing import Any


def llama(h: int, f: int, layers: int, heads: int, kv: int, words: int, **more: Any) -> dict:
    """Fields of a model whose sizes have Llama's names."""
    return {
        "model_type": "llama",
        "hidden_size": h,
        "intermediate_size": f,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": words,
        "tie_word_embeddings": False,
    } | more


QWEN2 = {"model_type": "qwen2"}
QWEN3 = {"model_type": "qwen3", "head_dim": 128}
QWEN3_MOE = {
    "model_type": "qwen3_moe",
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
}
TIED = {"tie_word_embeddings": True}
GEMMA2 = {"model_type": "gemma2", **TIED}
GEMMA3 = {"model_type": "gemma3_text", **TIED}
GPT_OSS = {"model_type": "gpt_oss", "head_dim": 64, "num_experts_per_tok": 4}
DEEPSEEK = {
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "tie_word_embeddings": False,
}

CARDS = (
    ("meta-llama/Llama-2-7b-hf", llama(4096, 11008, 32, 32, 32, 32000), 6_738_415_616),
    ("meta-llama/Llama-2-70b-hf", llama(8192, 28672, 80, 64, 8, 32000), 68_976_648_192),
    ("meta-llama/Llama-3.1-8B", llama(4096, 14336, 32, 32, 8, 128256), 8_030_261_248),
    ("meta-llama/Llama-3.1-70B", llama(8192, 28672, 80, 64, 8, 128256), 70_553_706_496),
    ("meta-llama/Llama-3.2-1B", llama(2048, 8192, 16, 32, 8, 128256, **TIED), 1_235_814_400),
    ("meta-llama/Llama-3.2-3B", llama(3072, 8192, 28, 24, 8, 128256, **TIED), 3_212_749_824),
    ("TinyLlama/TinyLlama-1.1B", llama(2048, 5632, 22, 32, 4, 32000), 1_100_048_384),
    ("HuggingFaceTB/SmolLM2-135M", llama(576, 1536, 30, 9, 3, 49152, **TIED), 134_515_008),
    ("HuggingFaceTB/SmolLM2-1.7B", llama(2048, 8192, 24, 32, 32, 49152, **TIED), 1_711_376_384),
    ("codellama/CodeLlama-34b-hf", llama(8192, 22016, 48, 64, 8, 32000), 33_743_970_304),
    (
        "mistralai/Mistral-7B-v0.1",
        llama(4096, 14336, 32, 32, 8, 32000, model_type="mistral"),
        7_241_732_096,
    ),
    (
        "mistralai/Mistral-Nemo-Base-2407",
        llama(5120, 14336, 40, 32, 8, 131072, model_type="mistral", head_dim=128),
        12_247_782_400,
    ),
    (
        "mistralai/Mistral-Small-24B-Base-2501",
        llama(5120, 32768, 40, 32, 8, 131072, model_type="mistral", head_dim=128),
        23_572_403_200,
    ),
    (
        "mistralai/Mixtral-8x7B-v0.1",
        llama(4096, 14336, 32, 32, 8, 32000, model_type="mixtral", num_local_experts=8),
        46_702_792_704,
    ),
    (
        "mistralai/Mixtral-8x22B-v0.1",
        llama(6144, 16384, 56, 48, 8, 32000, model_type="mixtral", num_local_experts=8),
        140_620_634_112,
    ),
    ("Qwen/Qwen2.5-0.5B", llama(896, 4864, 24, 14, 2, 151936, **QWEN2, **TIED), 494_032_768),
    ("Qwen/Qwen2.5-7B", llama(3584, 18944, 28, 28, 4, 152064, **QWEN2), 7_615_616_512),
    ("Qwen/Qwen2.5-32B", llama(5120, 27648, 64, 40, 8, 152064, **QWEN2), 32_763_876_352),
    ("Qwen/Qwen2.5-72B", llama(8192, 29568, 80, 64, 8, 152064, **QWEN2), 72_706_203_648),
    ("Qwen/Qwen3-0.6B", llama(1024, 3072, 28, 16, 8, 151936, **QWEN3, **TIED), 596_049_920),
    ("Qwen/Qwen3-4B", llama(2560, 9728, 36, 32, 8, 151936, **QWEN3, **TIED), 4_022_468_096),
    ("Qwen/Qwen3-8B", llama(4096, 12288, 36, 32, 8, 151936, **QWEN3), 8_190_735_360),
    ("Qwen/Qwen3-32B", llama(5120, 25600, 64, 64, 8, 151936, **QWEN3), 32_762_123_264),
    (
        "Qwen/Qwen3-30B-A3B",
        llama(2048, 6144, 48, 32, 4, 151936, **QWEN3_MOE, moe_intermediate_size=768),
        30_532_122_624,
    ),
    (
        "Qwen/Qwen3-235B-A22B",
        llama(4096, 12288, 94, 64, 4, 151936, **QWEN3_MOE, moe_intermediate_size=1536),
        235_093_634_560,
    ),
    (
        "google/gemma-2-2b",
        llama(2304, 9216, 26, 8, 4, 256000, **GEMMA2, head_dim=256),
        2_614_341_888,
    ),
    (
        "google/gemma-2-9b",
        llama(3584, 14336, 42, 16, 8, 256000, **GEMMA2, head_dim=256),
        9_241_705_984,
    ),
    (
        "google/gemma-2-27b",
        llama(4608, 36864, 46, 32, 16, 256000, **GEMMA2, head_dim=128),
        27_227_128_320,
    ),
    (
        "google/gemma-3-1b-pt",
        llama(1152, 6912, 26, 4, 1, 262144, **GEMMA3, head_dim=256),
        999_885_952,
    ),
    (
        "google/gemma-3-4b-pt",  # its text_config leaves out what is the type's default
        {
            "model_type": "gemma3",
            "text_config": {
                "model_type": "gemma3_text",
                "hidden_size": 2560,
                "intermediate_size": 10240,
                "num_hidden_layers": 34,
                "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
                "sliding_window": 1024,
            },
            "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model"},
            "mm_tokens_per_image": 256,
        },
        3_880_263_168,
    ),
    (
        "google/gemma-3-27b-pt",
        {
            "model_type": "gemma3",
            "text_config": {
                "model_type": "gemma3_text",
                "head_dim": 128,
                "hidden_size": 5376,
                "intermediate_size": 21504,
                "num_attention_heads": 32,
                "num_hidden_layers": 62,
                "num_key_value_heads": 16,
                "query_pre_attn_scalar": 168,
            },
        },
        27_009_346_304,
    ),
    (
        "openai/gpt-oss-20b",
        llama(2880, 2880, 24, 64, 8, 201088, **GPT_OSS, num_local_experts=32),
        20_914_757_184,
    ),
    (
        "openai/gpt-oss-120b",
        llama(2880, 2880, 36, 64, 8, 201088, **GPT_OSS, num_local_experts=128),
        116_829_156_672,
    ),
    (
        "deepseek-ai/DeepSeek-V2-Lite",
        llama(
            *(2048, 10944, 27, 16, 16, 102400),
            **DEEPSEEK,
            model_type="deepseek_v2",
            q_lora_rank=None,
            moe_intermediate_size=1408,
            n_routed_experts=64,
            n_shared_experts=2,
            num_experts_per_tok=6,
            first_k_dense_replace=1,
        ),
        15_706_484_224,
    ),
    (
        "deepseek-ai/DeepSeek-V3",
        llama(
            *(7168, 18432, 61, 128, 128, 129280),
            **DEEPSEEK,
            model_type="deepseek_v3",
            q_lora_rank=1536,
            moe_intermediate_size=2048,
            n_routed_experts=256,
            n_shared_experts=1,
            num_experts_per_tok=8,
            first_k_dense_replace=3,
        ),
        671_026_404_352,
    ),
    (
        "microsoft/Phi-3-mini-4k-instruct",
        llama(3072, 8192, 32, 32, 32, 32064, model_type="phi3"),
        3_821_079_552,
    ),
    ("microsoft/phi-4", llama(5120, 17920, 40, 40, 10, 100352, model_type="phi3"), 14_659_507_200),
    ("microsoft/phi-2", llama(2560, 10240, 32, 32, 32, 51200, model_type="phi"), 2_779_683_840),
    (
        "allenai/OLMo-2-1124-7B",
        llama(4096, 11008, 32, 32, 32, 100352, model_type="olmo2"),
        7_298_617_344,
    ),
    (
        "HuggingFaceTB/SmolLM3-3B",
        llama(2048, 11008, 36, 16, 4, 128256, model_type="smollm3", **TIED),
        3_075_098_624,
    ),
    (
        "EleutherAI/pythia-1b",
        {
            "model_type": "gpt_neox",
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_attention_heads": 8,
            "num_hidden_layers": 16,
            "vocab_size": 50304,
        },
        1_011_781_632,
    ),
    (
        "facebook/opt-125m",
        {
            "model_type": "opt",
            "hidden_size": 768,
            "ffn_dim": 3072,
            "num_attention_heads": 12,
            "num_hidden_layers": 12,
            "vocab_size": 50272,
        },
        125_239_296,
    ),
    (
        "bigscience/bloom-560m",
        {
            "model_type": "bloom",
            "n_embed": 1024,
            "hidden_size": 1024,
            "n_layer": 24,
            "num_attention_heads": 16,
            "vocab_size": 250880,
        },
        559_214_592,
    ),
    (
        "tiiuae/falcon-7b",
        {
            "model_type": "falcon",
            "hidden_size": 4544,
            "num_attention_heads": 71,
            "num_hidden_layers": 32,
            "multi_query": True,
            "vocab_size": 65024,
        },
        6_921_720_704,
    ),
    (
        "openai-community/gpt2",
        {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257},
        124_439_808,
    ),
    (
        "openai-community/gpt2-xl",
        {"model_type": "gpt2", "n_embd": 1600, "n_layer": 48, "n_head": 25, "vocab_size": 50257},
        1_557_611_200,
    ),
    (
        "state-spaces/mamba-130m-hf",
        {
            "model_type": "mamba",
            "hidden_size": 768,
            "intermediate_size": 1536,
            "num_hidden_layers": 24,
            "state_size": 16,
            "time_step_rank": 48,
            "vocab_size": 50280,
        },
        129_135_360,
    ),
)
