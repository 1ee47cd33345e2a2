"""Right answers to every exercise in other styles than the reference's: loops and vectors, NumPy
and torch, in other precisions and other types, as a student may well write them.
"""

import json
import math
import re
from collections import Counter

import numpy as np
import torch
from torch import Tensor

from lab_utils.checking.exercises.lab_02 import padded
from lab_utils.checking.exercises.lab_03 import all_activations
from lab_utils.checking.exercises.lab_05 import chance, grams


# -------------------------------------------------------------------------------------- lab 00
def next_token_loss_by_hand(logits: Tensor, ids: Tensor) -> float:
    probabilities = torch.softmax(logits.double(), dim=-1)
    losses = [-math.log(probabilities[t, ids[t + 1]]) for t in range(len(ids) - 1)]
    return sum(losses) / len(losses)


def next_token_loss_gathered(logits: Tensor, ids: Tensor) -> Tensor:
    log_probabilities = logits.log_softmax(dim=1)[:-1]
    return -log_probabilities.gather(1, ids[1:].unsqueeze(1)).mean()


def next_token_loss_numpy(logits: Tensor, ids: Tensor) -> np.floating:
    scores, places = logits.numpy()[:-1], np.arange(len(ids) - 1)
    return np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[places, ids.numpy()[1:]])


def preference_loss_numpy(chosen, rejected, reference_chosen, reference_rejected, beta) -> float:
    gain = (chosen - rejected).double().numpy() - (
        reference_chosen - reference_rejected
    ).double().numpy()
    return float(np.log1p(np.exp(-beta * gain)).mean())


def preference_loss_pair_by_pair(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float,
) -> float:
    losses = []
    for i in range(len(chosen)):
        gained = (chosen[i] - reference_chosen[i]).item()
        margin = gained - (rejected[i] - reference_rejected[i]).item()
        losses.append(math.log(1 + math.exp(-beta * margin)))
    return sum(losses) / len(losses)


def preference_loss_sigmoid(chosen, rejected, reference_chosen, reference_rejected, beta) -> Tensor:
    now, before = chosen - rejected, reference_chosen - reference_rejected
    return torch.mean(-torch.log(torch.sigmoid(beta * (now - before).double())))


def full_finetuning_gigabytes_in_bytes(n_params: float, value_bytes: int, master: bool) -> float:
    total = 2 * n_params * value_bytes
    total += 2 * 4 * n_params
    if master:
        total += n_params * 4
    return total / 10**9


def peft_gigabytes_by_parts(n_params: float, base_bits: float, n_adapter: float) -> float:
    frozen = n_params * base_bits / (8 * 10**9)
    values = gradients = n_adapter * 4 / 10**9
    states = 2 * n_adapter * 4 / 10**9
    return frozen + values + gradients + states


def cards_by_counting(gigabytes: float, card_gigabytes: float, reserve: float) -> int:
    room, n = card_gigabytes - card_gigabytes * reserve, 1
    while n * room < gigabytes:
        n += 1
    return n


def cards_by_division(gigabytes: float, card_gigabytes: float, reserve: float) -> int:
    full, rest = divmod(gigabytes, (1 - reserve) * card_gigabytes)
    return int(full) + (rest > 0)


def cards_numpy(gigabytes: float, card_gigabytes: float, reserve: float) -> np.floating:
    return np.ceil(gigabytes / card_gigabytes / (1 - reserve))


# -------------------------------------------------------------------------------------- lab 01
def absmax_int8_numpy(x: Tensor) -> tuple[Tensor, float]:
    array = x.numpy()
    scale = 127 / np.abs(array).max()
    return torch.from_numpy(np.rint(array * scale).astype(np.int8)), float(scale)


def absmax_int8_half_away(x: Tensor) -> tuple[Tensor, Tensor]:
    scale = 127 / torch.linalg.vector_norm(x, ord=math.inf)
    return (torch.sign(x) * torch.floor(x.abs() * scale + 0.5)).to(torch.int8), scale


def absmax_int8_divided(x: Tensor) -> tuple[Tensor, Tensor]:
    largest = torch.max(x.max(), -x.min())
    return torch.round(x / largest * 127).type(torch.int8), 127 / largest


def max_error_bound_by_steps(x: Tensor, bits: int) -> np.floating:
    largest_code = (1 << (bits - 1)) - 1
    step = np.abs(x.numpy()).max() / largest_code
    return step * np.float32(0.5)


def bucket_of_listed(x: Tensor, codebook: Tensor) -> list[int]:
    values = codebook.tolist()
    return [min(range(len(values)), key=lambda i: abs(values[i] - v)) for v in x.tolist()]


def bucket_of_numpy(x: Tensor, codebook: Tensor) -> np.ndarray:
    distances = np.abs(np.subtract.outer(codebook.numpy(), x.numpy()))
    return np.argmin(distances, axis=0).astype(np.uint8)


def equal_count_codebook_numpy(x: Tensor, bits: int) -> np.ndarray:
    groups = np.array_split(np.sort(x.numpy()), 2**bits)
    return np.array([np.median(group) for group in groups])


def equal_count_codebook_picked(x: Tensor, bits: int) -> list[float]:
    values, each = sorted(x.tolist()), len(x) // 2**bits
    return values[each // 2 :: each]


def pack_codes_by_numbers(codes: Tensor) -> Tensor:
    numbers = codes.tolist()
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return torch.tensor([16 * high + low for high, low in pairs], dtype=torch.uint8)


# -------------------------------------------------------------------------------------- lab 02
def blockwise_absmax_padded(x: Tensor, block_size: int) -> Tensor:
    return padded(x, block_size).abs().amax(dim=1)


def blockwise_absmax_listed(x: Tensor, block_size: int) -> list[float]:
    values = [abs(value) for value in x.flatten().tolist()]
    return [max(values[i : i + block_size]) for i in range(0, len(values), block_size)]


def blockwise_absmax_numpy(x: Tensor, block_size: int) -> np.ndarray:
    magnitudes = np.abs(x.numpy()).ravel()
    return np.maximum.reduceat(magnitudes, np.arange(0, magnitudes.size, block_size))


def quantize_constants_numpy(absmax: Tensor) -> tuple[Tensor, float, float]:
    offset = absmax.double().mean()
    centered = (absmax.double() - offset).numpy()
    scale = 127 / np.abs(centered).max()
    return torch.from_numpy(np.rint(centered * scale).astype(np.int8)), float(scale), offset.item()


def quantize_constants_divided(absmax: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    offset = torch.mean(absmax)
    largest = max((absmax - offset).max(), (offset - absmax).max())
    return ((absmax - offset) / largest * 127).round().char(), 127 / largest, offset


def quantize_constants_by_sums(absmax: Tensor) -> list:
    offset = sum(absmax.tolist()) / len(absmax)
    centered = [value - offset for value in absmax.tolist()]
    scale = 127 / max(max(centered), -min(centered))
    return [torch.tensor([round(c * scale) for c in centered], dtype=torch.int8), scale, offset]


def bytes_of_scheme_step_by_step(n_values: int, code_bits: int, block_size: int) -> int:
    n_bytes, rest = divmod(n_values * code_bits, 8)
    if rest:
        n_bytes += 1
    for _ in range(0, n_values, block_size):
        n_bytes += 4
    return n_bytes


def bits_per_param_of_a_group(code_bits: int, block_size: int, block_size_2: int) -> float:
    n_weights = block_size * block_size_2
    n_bits = n_weights * code_bits + block_size_2 * 8 + 32
    return n_bits / n_weights


def model_gigabytes_by_bytes(n_params: float, bits: float) -> float:
    bytes_each = bits / 8
    return bytes_each * n_params / 10**9


# -------------------------------------------------------------------------------------- lab 03
def keep_checkpoints_by_segments(x: Tensor, weights: list[Tensor], k: int) -> list[Tensor]:
    kept = [x]
    for start in range(k, len(weights), k):
        inner = kept[-1]
        for weight in weights[start - k : start]:
            inner = (weight @ inner).tanh()
        kept.append(inner)
    return kept


def keep_checkpoints_numpy(x: Tensor, weights: list[Tensor], k: int) -> tuple[Tensor, ...]:
    value, kept = x.numpy(), {}
    for i, weight in enumerate(weights):
        kept.setdefault(i // k, torch.from_numpy(value))
        value = np.tanh(weight.numpy().dot(value))
    return tuple(kept.values())


def segment_peak_backwards(lengths: list[int]) -> int:
    checkpoints, peak = len(lengths), 0
    for length in reversed(lengths):
        peak = max(peak, checkpoints + length)
        checkpoints -= 1
    return peak


def segment_peak_numpy(lengths: list[int]) -> np.integer:
    return np.max(np.array(lengths) + np.arange(len(lengths)) + 1)


def segment_peak_walked(lengths: list[int]) -> int:
    peak = 0
    for j in range(len(lengths)):
        if j + 1 + lengths[j] > peak:
            peak = j + 1 + lengths[j]
    return peak


def recomputed_layers_by_segments(n: int, k: int) -> int:
    lengths = [min(k, n - start) for start in range(0, n, k)]
    return sum(lengths[:-1])


def activation_gigabytes_by_parts(
    sequence: int, batch: int, hidden: int, heads: int, layers: int
) -> float:
    linear = 34 * sequence * batch * hidden * layers
    scores = 5 * layers * batch * heads * sequence * sequence
    return linear / 10**9 + scores / 10**9


def page_transfers_by_time(touched: list[int], room: int) -> int:
    last_use, transfers = {}, 0
    for time, page in enumerate(touched):
        if page not in last_use:
            transfers += 1
            if len(last_use) == room:
                del last_use[min(last_use, key=last_use.get)]
        last_use[page] = time
    return transfers


def page_transfers_ordered(touched: list[int], room: int) -> int:
    on_gpu: dict[int, None] = {}
    transfers = 0
    for page in touched:
        if page in on_gpu:
            del on_gpu[page]
        else:
            transfers += 1
            while len(on_gpu) >= room:
                del on_gpu[next(iter(on_gpu))]
        on_gpu[page] = None
    return transfers


def page_transfers_looking_back(touched: list[int], room: int) -> int:
    transfers = 0
    for time, page in enumerate(touched):
        since: set[int] = set()
        for earlier in reversed(touched[:time]):
            if earlier == page or len(since) == room:
                break
            since.add(earlier)
        else:
            earlier = None
        transfers += earlier != page or len(since) == room
    return transfers


def smallest_paged_rank_counted(width: int) -> int:
    rank, elements = 0, 0
    while elements < 100_000:
        rank, elements = rank + 1, elements + width
    return rank


# -------------------------------------------------------------------------------------- lab 04
def low_rank_error_by_product(w: Tensor, rank: int) -> float:
    u, s, vt = torch.linalg.svd(w, full_matrices=False)
    return ((w - (u[:, :rank] * s[:rank]) @ vt[:rank]).norm() / w.norm()).item()


def low_rank_error_numpy(w: Tensor, rank: int) -> np.floating:
    s = np.linalg.svd(w.numpy(), compute_uv=False)
    return np.linalg.norm(s[rank:]) / np.linalg.norm(w.numpy())


def low_rank_error_by_subtracting(w: Tensor, rank: int) -> Tensor:
    rest = w.double()
    u, s, vt = torch.linalg.svd(rest)
    for k in range(rank):
        rest = rest - s[k] * torch.outer(u[:, k], vt[k])
    return rest.norm() / w.double().norm()


def largest_useful_rank_counted(n_out: int, n_in: int) -> int:
    rank = 0
    while (rank + 1) * (n_out + n_in) < n_out * n_in:
        rank += 1
    return rank


def make_adapter_parameters(noise: Tensor, n_out: int) -> tuple[torch.nn.Parameter, ...]:
    lora_a = torch.nn.Parameter(noise * noise.size(1) ** -0.5)
    lora_b = torch.nn.Parameter(torch.empty(n_out, noise.size(0)))
    torch.nn.init.zeros_(lora_b)
    return lora_a, lora_b


def make_adapter_numpy(noise: Tensor, n_out: int) -> list[np.ndarray]:
    return [noise.numpy() / np.sqrt(noise.shape[-1]), np.zeros((n_out, len(noise)))]


def lora_update_column_by_column(lora_a: Tensor, lora_b: Tensor, alpha: float) -> Tensor:
    rank = len(lora_a)
    update = torch.zeros(len(lora_b), lora_a.size(1))
    for k in range(rank):
        update += torch.outer(lora_b[:, k], lora_a[k]) * alpha / rank
    return update


def lora_step_decay_first(weight, lora_a, lora_b, grad_a, grad_b, rate, decay):
    return (
        weight.clone(),
        (1 - rate * decay) * lora_a - rate * grad_a,
        (1 - rate * decay) * lora_b - rate * grad_b,
    )


def lora_step_optimizer(weight, lora_a, lora_b, grad_a, grad_b, rate, decay) -> list[Tensor]:
    trained = [torch.nn.Parameter(lora_a.clone()), torch.nn.Parameter(lora_b.clone())]
    trained[0].grad, trained[1].grad = grad_a.clone(), grad_b.clone()
    torch.optim.SGD(trained, lr=rate, weight_decay=decay).step()
    return [weight, *trained]


def lora_step_listed(weight, lora_a, lora_b, grad_a, grad_b, rate, decay) -> tuple[Tensor, ...]:
    result = [weight.clone()]
    for value, gradient in ((lora_a, grad_a), (lora_b, grad_b)):
        moved_by = rate * gradient + rate * decay * value
        result.append(value - moved_by)
    return tuple(result)


def swap_adapter_in_two_steps(merged, old, new, alpha) -> Tensor:
    weight = merged.clone()
    for sign, (lora_a, lora_b) in ((-1, old), (1, new)):
        weight += sign * alpha / lora_a.shape[0] * lora_b @ lora_a
    return weight


def swap_adapter_stacked(merged, old, new, alpha) -> torch.nn.Parameter:
    a = torch.cat([old[0] / -len(old[0]), new[0] / len(new[0])])
    b = torch.cat([old[1], new[1]], dim=1)
    return torch.nn.Parameter(merged + alpha * (b @ a))


# -------------------------------------------------------------------------------------- lab 05
def complete_objects_decoded(text: str) -> list[tuple[int, int]]:
    decoder, found, position = json.JSONDecoder(strict=False), [], 0
    while (start := text.find("{", position)) >= 0:
        try:
            _, position = decoder.raw_decode(text, start)
            found.append((start, position))
        except ValueError:
            position = start + 1
    return found


def complete_objects_by_pattern(text: str) -> list[tuple[int, int]]:
    string = r'"(?:[^"\\]|\\.)*"'
    whole_object = re.compile(r'\{(?:[^{}"]|' + string + r")*\}", re.DOTALL)
    return [match.span() for match in whole_object.finditer(text)]


def complete_objects_by_jumps(text: str) -> list[list[int]]:
    found, i, start = [], 0, -1
    while i < len(text):
        if text[i] == '"' and start >= 0:
            i += 1
            while i < len(text) and text[i] != '"':
                i += 2 if text[i] == "\\" else 1
        elif text[i] == "{":
            start = i
        elif text[i] == "}" and start >= 0:
            found.append([start, i + 1])
            start = -1
        i += 1
    return found


def content_jaccard_counted(a: str, b: str, stop_words: tuple[str, ...]) -> float:
    first, second = (
        {word for word in text.lower().split() if word not in stop_words} for text in (a, b)
    )
    common = sum(word in second for word in first)
    return common / (len(first) + len(second) - common)


def content_jaccard_listed(a: str, b: str, stop_words: tuple[str, ...]) -> float:
    seen, common = {}, 0
    for number, text in enumerate((a, b)):
        for word in text.lower().split(" "):
            if word not in stop_words:
                seen.setdefault(word, set()).add(number)
    for numbers in seen.values():
        common += len(numbers) == 2
    return common / len(seen)


def content_jaccard_numpy(a: str, b: str, stop_words: tuple[str, ...]) -> np.floating:
    first, second = (np.setdiff1d(text.lower().split(), stop_words) for text in (a, b))
    return np.float32(np.intersect1d(first, second).size / np.union1d(first, second).size)


def distinct_n_counted(texts: list[str], n: int) -> float:
    counts: Counter = Counter()
    for text in texts:
        words = text.split()
        counts.update(zip(*(words[i:] for i in range(n))))
    return len(counts) / sum(counts.values())


def distinct_n_sliding(texts: list[str], n: int) -> np.floating:
    seen, total = {}, 0
    for text in texts:
        window: list[str] = []
        for word in text.split(" "):
            window = [*window, word][-n:]
            if len(window) == n:
                total += 1
                seen[" ".join(window)] = True
    return np.float32(len(seen)) / np.float32(total)


def distinct_n_sorted(texts: list[str], n: int) -> float:
    all_grams = sorted(gram for text in texts for gram in grams(text, n))
    changes = sum(before != after for before, after in zip(all_grams, all_grams[1:]))
    return (1 + changes) / len(all_grams)


def leaked_share_numpy(train_facts: list[str], held_out_facts: list[str]) -> float:
    return float(np.isin(held_out_facts, train_facts).mean())


def leaked_share_counted(train_facts: list[str], held_out_facts: list[str]) -> np.floating:
    rows = Counter(held_out_facts)
    clean = sum(count for fact, count in rows.items() if fact not in train_facts)
    return np.float32(1 - clean / rows.total())


def leaked_share_walked(train_facts: list[str], held_out_facts: list[str]) -> float:
    leaked = 0
    for fact in held_out_facts:
        for known in train_facts:
            if known == fact:
                leaked += 1
                break
    return leaked / len(held_out_facts)


def cohens_kappa_disagreement(a: list[int], b: list[int]) -> float:
    """1 minus the disagreement observed over the disagreement expected."""
    observed = float(np.mean(np.array(a) != np.array(b)))
    return 1 - observed / (1 - chance(a, b))


def cohens_kappa_table(a: list[int], b: list[int]) -> np.floating:
    labels = sorted({*a, *b})
    table = np.zeros((len(labels), len(labels)))
    for x, y in zip(a, b):
        table[labels.index(x), labels.index(y)] += 1
    table /= table.sum()
    by_chance = table.sum(axis=0) @ table.sum(axis=1)
    return np.float32((np.trace(table) - by_chance) / (1 - by_chance))


def cohens_kappa_counted(a: list[int], b: list[int]) -> float:
    n, first, second = len(a), Counter(a), Counter(b)
    same = len([1 for i in range(n) if a[i] == b[i]])
    lot = sum(first[label] * second[label] for label in first) / n
    return (same - lot) / (n - lot)


# -------------------------------------------------------------------------------------- lab 06
def mask_labels_where(input_ids: Tensor, n_prompt: int, n_real: int) -> Tensor:
    position = torch.arange(len(input_ids))
    return torch.where((position >= n_prompt) & (position < n_real), input_ids, -100)


def mask_labels_listed(input_ids: Tensor, n_prompt: int, n_real: int) -> list[int]:
    answer = input_ids.tolist()[n_prompt:n_real]
    return [-100] * n_prompt + answer + [-100] * (len(input_ids) - n_real)


def mask_labels_filled(input_ids: Tensor, n_prompt: int, n_real: int) -> Tensor:
    labels = torch.full(input_ids.shape, -100, dtype=torch.int32)
    labels[n_prompt:n_real] = input_ids[n_prompt:n_real].int()
    return labels


def qlora_backward_by_autograd(
    grad_y, x, codes, levels, absmax, lora_a, lora_b, alpha
) -> tuple[Tensor, ...]:
    inputs = [tensor.clone().requires_grad_() for tensor in (x, lora_a, lora_b)]
    x, a, b = inputs
    weight = torch.diag(absmax) @ torch.take(levels, codes)
    y = x @ weight.T + (x @ a.T @ b.T) * alpha / len(a)
    return torch.autograd.grad(y, inputs, grad_y)


def qlora_backward_row_by_row(grad_y, x, codes, levels, absmax, lora_a, lora_b, alpha) -> list:
    scale, grad_x = alpha / lora_b.shape[1], torch.zeros_like(x)
    grad_a, grad_b = torch.zeros_like(lora_a), torch.zeros_like(lora_b)
    merged = levels[codes] * absmax.reshape(-1, 1) + scale * (lora_b @ lora_a)
    for i in range(len(x)):
        grad_x[i] = merged.T @ grad_y[i]
        grad_a += scale * torch.outer(lora_b.T @ grad_y[i], x[i])
        grad_b += scale * torch.outer(grad_y[i], lora_a @ x[i])
    return [grad_x, grad_a, grad_b]


def qlora_backward_in_double(grad_y, x, codes, levels, absmax, lora_a, lora_b, alpha) -> tuple:
    g, x, a, b = (tensor.double() for tensor in (grad_y, x, lora_a, lora_b))
    weight = torch.nn.functional.embedding(codes, levels[:, None])[..., 0] * absmax.unsqueeze(1)
    scaled = g * (alpha / a.shape[0])
    return (
        g @ weight.double() + scaled @ b @ a,
        torch.einsum("no,or,ni->ri", scaled, b, x),
        torch.einsum("no,ni,ri->or", scaled, x, a),
    )


def qlora_layer_bytes_without_ceil(n_in: int, n_out: int, rank: int) -> list[int]:
    n = n_in * n_out
    constants = (n + 63) // 64
    parts = [(n + 1) // 2, constants, (constants + 255) // 256 * 4]
    adapter = rank * n_in + n_out * rank
    return [sum(parts), adapter * (4 + 4 + 2 * 4)]


def qlora_layer_bytes_of_tensors(n_in: int, n_out: int, rank: int) -> tuple[int, int]:
    with torch.device("meta"):
        n = torch.empty(n_out, n_in).numel()
        blocks = len(range(0, n, 64))
        stored = [torch.empty(-(-n // 2), dtype=torch.uint8), torch.empty(blocks).char()]
        stored.append(torch.empty(len(range(0, blocks, 256))))
        adapter = [torch.empty(rank, n_in), torch.empty(n_out, rank)]
    return sum(t.nbytes for t in stored), 4 * sum(t.nbytes for t in adapter)


def lost_in_merging_row_by_row(codes, levels, absmax, update) -> float:
    lost = 0.0
    for row, constant, change in zip(codes.tolist(), absmax.tolist(), update.tolist(), strict=True):
        wanted = [levels[code].item() * constant + d for code, d in zip(row, change, strict=True)]
        largest = max(abs(value) for value in wanted)
        for value in wanted:
            lost += min((level * largest - value) ** 2 for level in levels.tolist())
    return math.sqrt(lost) / update.norm().item()


def lost_in_merging_searched(codes, levels, absmax, update) -> Tensor:
    wanted = torch.take(levels, codes) * absmax.unsqueeze(1) + update
    largest = wanted.abs().max(dim=1, keepdim=True).values
    middles = (levels[1:] + levels[:-1]) / 2
    stored = levels[torch.bucketize(wanted / largest, middles)] * largest
    return torch.linalg.norm(stored - wanted) / torch.linalg.norm(update)


def lost_in_merging_numpy(codes, levels, absmax, update) -> np.floating:
    table = levels.double().numpy()
    wanted = table[codes.numpy()] * absmax.numpy()[:, None] + update.double().numpy()
    largest = np.abs(wanted).max(axis=1, keepdims=True)
    off = np.abs(wanted[..., None] - table * largest[..., None]).min(axis=-1)
    return np.sqrt((off**2).sum()) / np.sqrt((update.double().numpy() ** 2).sum())


# -------------------------------------------------------------------------------------- lab 07
def bottleneck_forward_of_modules(hidden, down, down_bias, up, up_bias) -> Tensor:
    narrow = torch.nn.functional.linear(hidden, down, down_bias).clamp(min=0)
    return torch.nn.functional.linear(narrow, up, up_bias) + hidden


def bottleneck_forward_row_by_row(hidden, down, down_bias, up, up_bias) -> Tensor:
    results = []
    for row in hidden:
        narrow = down @ row + down_bias
        narrow = torch.where(narrow > 0, narrow, torch.zeros_like(narrow))
        results.append(row + up @ narrow + up_bias)
    return torch.stack(results)


def bottleneck_forward_numpy(hidden, down, down_bias, up, up_bias) -> np.ndarray:
    h, d, db, u, ub = (t.double().numpy() for t in (hidden, down, down_bias, up, up_bias))
    return np.maximum(np.einsum("nw,sw->ns", h, d) + db, 0) @ u.T + (h + ub)


def dora_weight_row_by_row(weight, lora_a, lora_b, lengths, alpha) -> Tensor:
    moved = torch.addmm(weight, lora_b, lora_a, alpha=alpha / len(lora_a))
    return torch.stack([m * row / row.square().sum().sqrt() for m, row in zip(lengths, moved)])


def dora_weight_normalized(weight, lora_a, lora_b, lengths, alpha) -> torch.nn.Parameter:
    moved = weight.double() + (lora_b @ lora_a).double() * alpha / lora_b.shape[1]
    directions = torch.nn.functional.normalize(moved, dim=1)
    return torch.nn.Parameter(directions * lengths.unsqueeze(1))


def dora_weight_diagonal(weight, lora_a, lora_b, lengths, alpha) -> Tensor:
    moved = weight + alpha / lora_a.size(0) * torch.matmul(lora_b, lora_a)
    return torch.diag(lengths / torch.linalg.vector_norm(moved, dim=1)) @ moved


def bottleneck_parameters_of_modules(hidden: int, size: int, n_layers: int) -> int:
    with torch.device("meta"):
        modules = [torch.nn.Linear(hidden, size), torch.nn.Linear(size, hidden)]
    one = sum(parameter.numel() for module in modules for parameter in module.parameters())
    return one * 2 * n_layers


def bottleneck_parameters_listed(hidden: int, size: int, n_layers: int) -> int:
    down = (hidden + 1) * size
    up = (size + 1) * hidden
    return sum([down, up] * 2 * n_layers)


def ia3_forward_merged(x: Tensor, weight: Tensor, factors: Tensor, feedforward: bool) -> Tensor:
    return x @ (weight * (factors if feedforward else factors[:, None])).T


def ia3_forward_row_by_row(x, weight, factors, feedforward) -> Tensor:
    rows = []
    for row in x:
        if feedforward:
            row = row * factors
        out = weight @ row
        rows.append(out if feedforward else out * factors)
    return torch.stack(rows)


def ia3_forward_diagonal(x, weight, factors, feedforward) -> Tensor:
    scale = torch.diag(factors)
    return torch.linalg.multi_dot([x, scale, weight.T] if feedforward else [x, weight.T, scale])


def add_two_adapters_stacked(
    weight: Tensor, a1: Tensor, b1: Tensor, a2: Tensor, b2: Tensor, alpha: float, share: float
) -> Tensor:
    a = torch.cat([(1 - share) * a1, share * a2])
    return weight + alpha / len(a1) * torch.cat([b1, b2], dim=1) @ a


def add_two_adapters_in_turn(weight, a1, b1, a2, b2, alpha, share) -> torch.nn.Parameter:
    result = weight.clone()
    for part, a, b in ((1 - share, a1, b1), (share, a2, b2)):
        result += part * alpha / len(a) * (b @ a)
    return torch.nn.Parameter(result)


def add_two_adapters_between(weight, a1, b1, a2, b2, alpha, share) -> Tensor:
    first, second = (
        weight.double() + (b @ a) * alpha / b.shape[1] for a, b in ((a1, b1), (a2, b2))
    )
    return torch.lerp(first, second, share)


def replay_rows_of_all(n_rows: int, share: float) -> np.integer:
    n_all = n_rows / (1 - share)
    return np.rint(n_all * share).astype(np.int64)


def lost_and_gained_loop(before: Tensor, after: Tensor) -> tuple[float, float]:
    pairs = list(zip(before.tolist(), after.tolist(), strict=True))
    return pairs.count((True, False)) / len(pairs), pairs.count((False, True)) / len(pairs)


def lost_and_gained_signed(before: Tensor, after: Tensor) -> Tensor:
    change = after.float() - before.float()
    return torch.stack([(change < 0).float().mean(), (change > 0).float().mean()])


def lost_and_gained_numpy(before: Tensor, after: Tensor) -> list[np.floating]:
    old, new = before.numpy(), after.numpy()
    kept = np.logical_and(old, new).mean()
    return [old.mean() - kept, new.mean() - kept]


# -------------------------------------------------------------------------------------- lab 08
def row_flaws_by_loops(line: str) -> list[int]:
    flaws = [0] * 5
    try:
        contents = dict(json.loads(line) if line.lstrip().startswith("{") else None).get("contents")
    except (ValueError, TypeError):
        return [1, 0, 0, 0, 0]
    if type(contents) is not list or len(contents) == 0:
        flaws[1] = 1
        return flaws
    for content in contents:
        if content["role"] not in ("user", "model"):
            flaws[2] = 1
        if any(part["text"].strip() == "" for part in content["parts"]):
            flaws[4] = 1
    flaws[3] = 0 if contents[-1]["role"] == "model" else 1
    return flaws


def row_flaws_of_yes_and_no(line: str) -> tuple[bool, ...]:
    try:
        contents = json.loads(line)
        if not hasattr(contents, "keys"):
            return True, False, False, False, False
    except json.JSONDecodeError:
        return True, False, False, False, False
    contents = contents["contents"] if "contents" in contents else None
    if type(contents) is not list or len(contents) < 1:
        return False, True, False, False, False
    other = any(message["role"] != "user" != "model" != message["role"] for message in contents)
    blank = not all(re.search(r"\S", p["text"]) for message in contents for p in message["parts"])
    return False, False, other, contents[-1]["role"] != "model", blank


def row_flaws_numpy(line: str) -> np.ndarray:
    flaws = np.zeros(5, dtype=np.int8)
    try:
        row = json.loads(line)
        flaws[0] = not isinstance(row, dict)
    except ValueError:
        flaws[0] = 1
    if flaws[0]:
        return flaws
    messages = row.get("contents", [])
    if not (messages and isinstance(messages, list)):
        return np.array([0, 1, 0, 0, 0])
    flaws[2] = len({message["role"] for message in messages} - {"user", "model"}) > 0
    flaws[3] = messages.pop()["role"] != "model"
    whole = json.loads(line)["contents"]
    flaws[4] = (
        sum(part["text"].isspace() or part["text"] == "" for m in whole for part in m["parts"]) > 0
    )
    return flaws


def dollars_epoch_by_epoch(row_tokens: list[int], epochs: int, dollars_per_million: float) -> float:
    dollars = 0.0
    for _ in range(epochs):
        for tokens in row_tokens:
            dollars += tokens / 1_000_000 * dollars_per_million
    return dollars


def retry_delay_by_pattern(body: dict, retry_after: str, default: float) -> float:
    found = re.search(r'"retryDelay": "([0-9.]+)s"', json.dumps(body))
    return float(found[1] if found else retry_after or default)


def retry_delay_first_said(body: dict, retry_after: str, default: float) -> np.floating:
    details = body.get("error", {}).get("details") or []
    said = [detail["retryDelay"].strip("s") for detail in details if detail.get("retryDelay")]
    if retry_after != "":
        said.append(retry_after)
    return np.float32((said + [default])[0])


def retry_delay_by_errors(body: dict, retry_after: str, default: float) -> float:
    try:
        delays = (detail.get("retryDelay", "") for detail in body["error"]["details"])
        return float(max(delays)[:-1])
    except (KeyError, ValueError):
        pass
    try:
        return float(int(retry_after))
    except ValueError:
        return default


def most_in_parts(
    prompt: str, max_output_tokens: int, input_price: float, output_price: float
) -> float:
    tokens = sum(len(letter.encode("utf-8")) for letter in prompt)
    return tokens / 1e6 * input_price + max_output_tokens / 1e6 * output_price


def most_for_each_part(
    prompt: str, max_output_tokens: int, input_price: float, output_price: float
) -> np.floating:
    tokens = np.array([np.frombuffer(prompt.encode("utf8"), np.uint8).size, max_output_tokens])
    return np.float32(tokens @ np.array([input_price, output_price]) / 10**6)


def questions_by_tokens(
    tuning_dollars: float, shots: int, shot_tokens: float, input_price: float
) -> int:
    tokens_for_the_money = tuning_dollars / input_price * 1_000_000
    return -int(-tokens_for_the_money // (shots * shot_tokens))


def questions_numpy(
    tuning_dollars: float, shots: int, shot_tokens: float, input_price: float
) -> np.integer:
    dollars_each = shots * shot_tokens * (input_price / 1e6)
    return np.ceil(np.float64(tuning_dollars) / dollars_each).astype(int)


def questions_one_by_one(
    tuning_dollars: float, shots: int, shot_tokens: float, input_price: float
) -> int:
    micro_dollars = shots * (shot_tokens * input_price)
    questions = int(tuning_dollars * 1_000_000 / micro_dollars)
    return questions if questions * micro_dollars >= tuning_dollars * 1_000_000 else questions + 1


# -------------------------------------------------------------------------------------- lab 09
def count_parameters_by_tensor(
    vocab: int, width: int, layers: int, heads: int, kv_heads: int, inner: int
) -> int:
    kv = kv_heads * (width // heads)
    shapes = [(width, width), (kv, width), (kv, width), (width, width)]
    shapes += [(inner, width), (inner, width), (width, inner)]
    return layers * (sum(a * b for a, b in shapes) + 2 * width) + width + math.prod((vocab, width))


def count_parameters_listed(
    vocab: int, width: int, layers: int, heads: int, kv_heads: int, inner: int
) -> int:
    sizes = [vocab * width, width]
    for _ in range(layers):
        sizes += [width**2, width**2]
        sizes += [width * width // heads * kv_heads] * 2
        sizes += [inner * width] * 3
        sizes += [width, width]
    return sum(sizes)


def count_parameters_numpy(
    vocab: int, width: int, layers: int, heads: int, kv_heads: int, inner: int
) -> np.integer:
    per_width = 2 * width + 2 * kv_heads * (width // heads) + 3 * inner + 2
    return np.int64(width) * (vocab + 1 + layers * per_width)


def needs_head_rolled(labels: Tensor) -> Tensor:
    ahead = torch.roll(labels, -1, dims=1)
    last = torch.arange(labels.shape[1]) == labels.shape[1] - 1
    return (ahead != -100) & ~last


def needs_head_row_by_row(labels: Tensor) -> Tensor:
    rows = [[label != -100 for label in row[1:]] + [False] for row in labels.tolist()]
    return torch.tensor(rows)


def needs_head_padded(labels: Tensor) -> Tensor:
    return torch.nn.functional.pad(labels[:, 1:], (0, 1), value=-100).ne(-100)


def answer_from_notes_listed(notes: list[str], cheese: str, values: list[str]) -> int:
    said = [note for note in notes if cheese in note]
    found = [i for note in said for i in range(len(values)) if values[i] in note]
    return (found + [-1])[0]


def answer_from_notes_next(notes: list[str], cheese: str, values: list[str]) -> int:
    right = (note for note in notes if note.count(cheese))
    found = (values.index(value) for note in right for value in values if note.find(value) >= 0)
    return next(found, -1)


def answer_from_notes_backwards(notes: list[str], cheese: str, values: list[str]) -> np.integer:
    answer = -1
    for note in reversed(notes):
        places = [i for i in range(len(values)) if values[i] in note]
        if places and cheese in note:
            answer = places[0]
    return np.int64(answer)


def lost_gained_kept_counted(before: list[bool], after: list[bool]) -> tuple[int, int, float]:
    both = sum(b and a for b, a in zip(before, after))
    n_before, n_after = before.count(True), after.count(True)
    return n_before - both, n_after - both, n_after / n_before


def lost_gained_kept_numpy(before: list[bool], after: list[bool]) -> np.ndarray:
    old, new = np.array(before, dtype=int), np.array(after, dtype=int)
    return np.array([np.sum(new < old), np.sum(new > old), new.sum() / old.sum()])


def lost_gained_kept_walked(before: list[bool], after: list[bool]) -> Tensor:
    lost = gained = 0
    for i in range(len(before)):
        if before[i] and not after[i]:
            lost += 1
        elif before[i] != after[i]:
            gained += 1
    kept = (sum(before) - lost + gained) / sum(before)
    return torch.tensor([lost, gained, kept])


def mxfp4_scale_frexp(block: Tensor) -> float:
    return math.ldexp(1.0, math.frexp(block.abs().max().item())[1] - 3)


def mxfp4_scale_halved(block: Tensor) -> float:
    power, largest = 1.0, torch.max(block.abs()).item()
    while power > largest:
        power /= 2
    while power * 2 <= largest:
        power *= 2
    return power / 4


def mxfp4_scale_numpy(block: Tensor) -> np.floating:
    exponent = np.floor(np.log2(np.abs(block.numpy()).max()))
    return np.exp2(exponent) / np.float32(4)


VARIANTS = {
    "next_token_loss": (
        next_token_loss_by_hand,
        next_token_loss_gathered,
        next_token_loss_numpy,
    ),
    "preference_loss": (
        preference_loss_numpy,
        preference_loss_pair_by_pair,
        preference_loss_sigmoid,
    ),
    "full_finetuning_gigabytes": (
        full_finetuning_gigabytes_in_bytes,
        lambda n_params, value_bytes, master: (
            n_params / 1e9 * sum([value_bytes, value_bytes, 4, 4] + [4] * bool(master))
        ),
        lambda n_params, value_bytes, master: np.float32(
            n_params * (12 + 2 * value_bytes if master else 8 + 2 * value_bytes) * 1e-9
        ),
    ),
    "peft_gigabytes": (
        peft_gigabytes_by_parts,
        lambda n_params, base_bits, n_adapter: (
            n_params * base_bits / 8e9 + n_adapter * (4 + 4 + 4 + 4) / 1e9
        ),
        lambda n_params, base_bits, n_adapter: np.float32(
            (n_params * base_bits + 4 * 32 * n_adapter) / 8e9
        ),
    ),
    "cards_needed": (
        cards_by_counting,
        cards_by_division,
        cards_numpy,
    ),
    "absmax_int8": (
        absmax_int8_numpy,
        absmax_int8_half_away,
        absmax_int8_divided,
    ),
    "dequantize_int8": (
        lambda codes, scale: codes.to(torch.float32) * (1 / scale),
        lambda codes, scale: torch.div(codes.double(), scale),
        lambda codes, scale: codes.numpy() / scale,
    ),
    "max_error_bound": (
        max_error_bound_by_steps,
        lambda x, bits: 0.5 / ((2 ** (bits - 1) - 1) / float(x.abs().max())),
        lambda x, bits: torch.linalg.vector_norm(x, ord=math.inf) / (2**bits - 2),
    ),
    "bucket_of": (
        lambda x, codebook: torch.searchsorted((codebook[1:] + codebook[:-1]) / 2, x),
        lambda x, codebook: torch.stack([((v - codebook) ** 2).argmin().int() for v in x]),
        bucket_of_listed,
        bucket_of_numpy,
    ),
    "equal_count_codebook": (
        lambda x, bits: torch.quantile(
            x, (torch.arange(2**bits) + 0.5) / 2**bits, interpolation="nearest"
        ),
        lambda x, bits: torch.stack([part.median() for part in torch.sort(x)[0].chunk(2**bits)]),
        equal_count_codebook_numpy,
        equal_count_codebook_picked,
    ),
    "pack_codes": (
        lambda codes: codes.view(-1, 2)[:, 0] * 16 + codes.view(-1, 2)[:, 1],
        lambda codes: (codes[::2] << 4) ^ codes[1::2],
        pack_codes_by_numbers,
    ),
    "blockwise_absmax": (
        blockwise_absmax_padded,
        blockwise_absmax_listed,
        blockwise_absmax_numpy,
    ),
    "quantize_constants": (
        quantize_constants_numpy,
        quantize_constants_divided,
        quantize_constants_by_sums,
    ),
    "bytes_of_scheme": (
        bytes_of_scheme_step_by_step,
        lambda n_values, code_bits, block_size: (
            -(-n_values * code_bits // 8) + -(-n_values // block_size) * 4
        ),
        lambda n_values, code_bits, block_size: (
            np.ceil(n_values * code_bits / 8) + np.float32(4) * np.ceil(n_values / block_size)
        ),
    ),
    "bits_per_param_double_quant": (
        bits_per_param_of_a_group,
        lambda code_bits, block_size, block_size_2: (
            code_bits + (8 + 32 / block_size_2) / block_size
        ),
        lambda code_bits, block_size, block_size_2: (
            np.float32(code_bits)
            + np.float32(8 / block_size)
            + np.float32(32 / block_size / block_size_2)
        ),
    ),
    "model_gigabytes": (
        model_gigabytes_by_bytes,
        lambda n_params, bits: (n_params / 1e9) * (bits / 8),
        lambda n_params, bits: np.float32(n_params) * np.float32(bits) / np.float32(8e9),
    ),
    "keep_checkpoints": (
        lambda x, weights, k: all_activations(x, weights)[: len(weights) : k],
        keep_checkpoints_by_segments,
        keep_checkpoints_numpy,
    ),
    "segment_peak": (
        segment_peak_backwards,
        segment_peak_numpy,
        segment_peak_walked,
    ),
    "recomputed_layers": (
        lambda n, k: sum(1 for layer in range(n) if layer // k != (n - 1) // k),
        lambda n, k: (n - 1) // k * k,
        recomputed_layers_by_segments,
    ),
    "activation_gigabytes": (
        activation_gigabytes_by_parts,
        lambda sequence, batch, hidden, heads, layers: (
            sequence * batch * hidden * layers * (34 + 5 * heads * sequence / hidden) / 1e9
        ),
        lambda sequence, batch, hidden, heads, layers: (
            np.float32(1e-9 * layers * sequence * batch)
            * np.float32(34 * hidden + 5 * heads * sequence)
        ),
    ),
    "page_transfers": (
        page_transfers_by_time,
        page_transfers_ordered,
        page_transfers_looking_back,
    ),
    "smallest_paged_rank": (
        smallest_paged_rank_counted,
        lambda width: -(-100_000 // width),
        lambda width: np.ceil(1e5 / width).astype(int),
    ),
    "low_rank_error": (
        low_rank_error_by_product,
        low_rank_error_numpy,
        low_rank_error_by_subtracting,
    ),
    "largest_useful_rank": (
        largest_useful_rank_counted,
        lambda n_out, n_in: math.ceil(n_out * n_in / (n_out + n_in)) - 1,
        lambda n_out, n_in: next(
            rank for rank in range(min(n_out, n_in), 0, -1) if rank * (n_out + n_in) < n_out * n_in
        ),
    ),
    "make_adapter": (
        make_adapter_parameters,
        make_adapter_numpy,
        lambda noise, n_out: (
            noise * noise.shape[1] ** -0.5,
            noise.new_zeros(n_out, noise.shape[0]),
        ),
    ),
    "lora_update": (
        lambda lora_a, lora_b, alpha: (
            torch.einsum("or,ri->oi", lora_b, lora_a) * (alpha / len(lora_a))
        ),
        lora_update_column_by_column,
        lambda lora_a, lora_b, alpha: torch.nn.Parameter(
            (lora_b.double() @ lora_a.double()) * alpha / lora_b.shape[1]
        ),
    ),
    "lora_step": (
        lora_step_decay_first,
        lora_step_optimizer,
        lora_step_listed,
    ),
    "swap_adapter": (
        lambda merged, old, new, alpha: (
            merged + alpha * (new[1] @ new[0] / len(new[0]) - old[1] @ old[0] / len(old[0]))
        ),
        swap_adapter_in_two_steps,
        swap_adapter_stacked,
    ),
    "complete_objects": (
        complete_objects_decoded,
        complete_objects_by_pattern,
        complete_objects_by_jumps,
    ),
    "content_jaccard": (
        content_jaccard_counted,
        content_jaccard_listed,
        content_jaccard_numpy,
    ),
    "distinct_n": (
        distinct_n_counted,
        distinct_n_sliding,
        distinct_n_sorted,
    ),
    "leaked_share": (
        leaked_share_numpy,
        leaked_share_counted,
        leaked_share_walked,
    ),
    "cohens_kappa": (
        cohens_kappa_disagreement,
        cohens_kappa_table,
        cohens_kappa_counted,
    ),
    "mask_labels": (
        mask_labels_where,
        mask_labels_listed,
        mask_labels_filled,
    ),
    "qlora_backward": (
        qlora_backward_by_autograd,
        qlora_backward_row_by_row,
        qlora_backward_in_double,
    ),
    "qlora_layer_bytes": (
        qlora_layer_bytes_without_ceil,
        qlora_layer_bytes_of_tensors,
        lambda n_in, n_out, rank: (
            -(-n_in * n_out // 2) - (-n_in * n_out // 64) - 4 * (-n_in * n_out // 16384),
            16 * rank * (n_in + n_out),
        ),
    ),
    "lost_in_merging": (
        lost_in_merging_row_by_row,
        lost_in_merging_searched,
        lost_in_merging_numpy,
    ),
    "bottleneck_forward": (
        bottleneck_forward_of_modules,
        bottleneck_forward_row_by_row,
        bottleneck_forward_numpy,
    ),
    "dora_weight": (
        dora_weight_row_by_row,
        dora_weight_normalized,
        dora_weight_diagonal,
    ),
    "bottleneck_parameters": (
        lambda hidden, size, n_layers: n_layers * 2 * ((hidden + 1) * size + (size + 1) * hidden),
        bottleneck_parameters_of_modules,
        bottleneck_parameters_listed,
    ),
    "ia3_forward": (
        ia3_forward_merged,
        ia3_forward_row_by_row,
        ia3_forward_diagonal,
    ),
    "add_two_adapters": (
        add_two_adapters_stacked,
        add_two_adapters_in_turn,
        add_two_adapters_between,
    ),
    "replay_rows": (
        lambda n_rows, share: round(n_rows / (1 - share) - n_rows),
        replay_rows_of_all,
        lambda n_rows, share: math.floor(0.5 + n_rows / (1 / share - 1)) if share else 0,
    ),
    "lost_and_gained": (
        lost_and_gained_loop,
        lost_and_gained_signed,
        lost_and_gained_numpy,
    ),
    "row_flaws": (
        row_flaws_by_loops,
        row_flaws_of_yes_and_no,
        row_flaws_numpy,
    ),
    "dollars_of_tuning": (
        dollars_epoch_by_epoch,
        lambda row_tokens, epochs, dollars_per_million: (
            dollars_per_million * 1e-6 * np.float32(np.sum(row_tokens)) * epochs
        ),
        lambda row_tokens, epochs, dollars_per_million: math.fsum(
            tokens * dollars_per_million / 10**6 for tokens in row_tokens * epochs
        ),
    ),
    "retry_delay": (
        retry_delay_by_pattern,
        retry_delay_first_said,
        retry_delay_by_errors,
    ),
    "most_it_can_cost": (
        most_in_parts,
        most_for_each_part,
        lambda prompt, max_output_tokens, input_price, output_price: (
            1e-6 * input_price * len(bytes(prompt, "utf-8"))
            + 1e-6 * output_price * max_output_tokens
        ),
    ),
    "questions_to_break_even": (
        questions_by_tokens,
        questions_numpy,
        questions_one_by_one,
    ),
    "count_parameters": (
        count_parameters_by_tensor,
        count_parameters_listed,
        count_parameters_numpy,
    ),
    "needs_head": (
        needs_head_rolled,
        needs_head_row_by_row,
        needs_head_padded,
    ),
    "answer_from_notes": (
        answer_from_notes_listed,
        answer_from_notes_next,
        answer_from_notes_backwards,
    ),
    "lost_gained_kept": (
        lost_gained_kept_counted,
        lost_gained_kept_numpy,
        lost_gained_kept_walked,
    ),
    "mxfp4_scale": (
        mxfp4_scale_frexp,
        mxfp4_scale_halved,
        mxfp4_scale_numpy,
    ),
}
