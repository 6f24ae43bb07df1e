#!/usr/bin/env python3
"""Opens what `eval_gpt export --to hf` writes with the transformers package, and compares tokens, losses and greedy text.

    tests/hf_in_python.py --train-gpt build/bin/train_gpt --eval-gpt build/bin/eval_gpt --prepare-data build/bin/prepare_data

Exits with 77 without PyTorch, transformers or sentencepiece.
"""

import json
import os
import random
import subprocess
import tempfile
from pathlib import Path

from resume_kill import make_data
from with_packages import run, start

os.environ["HF_HUB_OFFLINE"] = "1"
LENGTH, WINDOWS, NEW_TOKENS = 64, 8, 48
CONFIG = {
    "VOCAB_SIZE": 352, "NUM_LAYERS": 2, "MODEL_DIM": 64, "NUM_HEADS": 4, "NUM_KV_HEADS": 2, "MLP_KIND": "swiglu",
    "NORM_WEIGHTS": 1, "QK_NORM": 0, "QK_GAIN_INIT": 1.5, "UNET_SKIPS": 0, "RESID_MIX": 0, "LOGIT_SOFTCAP": 0, "TIE_EMBEDDINGS": 0,
    "INIT_STD": 0.1, "ROPE_DIMS": 4, "OPTIMIZER": "adamw", "MATRIX_LR": 0.01, "EMBED_LR": 0.01, "HEAD_LR": 0.01,
    "SCALAR_LR": 0.01, "TRAIN_SEQ_LEN": LENGTH, "TRAIN_BATCH_TOKENS": 1024, "VAL_BATCH_SIZE": 4096, "ITERATIONS": 150,
    "WARMUP_STEPS": 0, "MAX_WALLCLOCK_SECONDS": 0, "DTYPE": "float32", "DEVICE": "cpu", "NUM_THREADS": 1,
}  # fmt: skip
SHAPES = {
    "sequential": ("Phi3ForCausalLM", {}),
    "none": ("Phi3ForCausalLM", {"ROPE_DIMS": "none"}),
    "full": ("Phi3ForCausalLM", {"ROPE_DIMS": "full", "TIE_EMBEDDINGS": 1}),
    "interleaved": ("Phi3ForCausalLM", {"ROPE_STYLE": "interleaved", "ROPE_SELECT": "high"}),
    "parallel": ("StableLmForCausalLM", {"PARALLEL_BLOCK": 1}),
    "qk_norm": ("StableLmForCausalLM", {"QK_NORM": 1}),
    "gelu": ("GPTNeoXForCausalLM", {"MLP_KIND": "gelu", "PARALLEL_BLOCK": 1}),
    "relu2": ("GPTNeoXForCausalLM", {"MLP_KIND": "relu2", "ROPE_DIMS": "none"}),
}
TEXTS = [
    "The river sings under the stone bridge.", "", " ", "  two  spaces\tand\n\nlines ", "caf\u00e9 na\u00efve \u00bd \ufb01",
    "\u6f22\u5b57\u3000\uff21 \u0436\u0438\u0437\u043d\u044c \U0001f642\U0001f468\u200d\U0001f469", "<s> </s> <unk> <0x41> <pad>",
    "\u2581 a\u2581b", "e\u0301 \u0301 \u00a0 \u200b x\u0000y", "1234567890 $%&/()=?", "a" * 300,
]  # fmt: skip


def check_tokenizer(theirs, processor):
    rng, alphabet = random.Random(3), [chr(c) for c in (*range(32, 127), 9, 10, 160, 233, 8217, 0x4E00, 0x1F642)]
    texts = TEXTS + ["".join(rng.choices(alphabet, k=rng.randint(1, 60))) for _ in range(300)]
    for text in texts:
        ids = processor.encode(text)
        assert theirs.encode(text, add_special_tokens=False) == ids, (text, ids, theirs.encode(text, add_special_tokens=False))
        assert theirs.encode(text) == [processor.bos_id(), *ids], text
        assert theirs.decode(ids, skip_special_tokens=True) == processor.decode(ids), text
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (1, 2, 0)
    return len(texts)


def main():
    args, np, torch, transformers, sentencepiece = start(__doc__, "numpy", "torch", "transformers", "sentencepiece")
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shards, tokenizer = make_data(folder, args.prepare_data, CONFIG["VOCAB_SIZE"], random.Random(1))
        [validation] = sorted(shards.glob("fineweb_val_*.bin"))
        tokens = torch.from_numpy(np.fromfile(validation, dtype="<u2", offset=1024)[: WINDOWS * LENGTH + 1].astype(np.int64))
        inputs, targets = tokens[:-1].view(WINDOWS, LENGTH), tokens[1:].view(WINDOWS, LENGTH)
        for name, (kind, variables) in SHAPES.items():
            run(args.train_gpt, **(CONFIG | variables), DATA_PATH=shards, TOKENIZER_PATH=tokenizer, OUT_DIR=folder, RUN_ID=name)
            model_file = folder / name / "final_model.pt"
            run(args.eval_gpt, "export", model_file, "--to", "hf", folder / f"{name}.hf", "--tokenizer-path", tokenizer)
            model = transformers.AutoModelForCausalLM.from_pretrained(folder / f"{name}.hf", dtype=torch.float32)
            theirs = transformers.AutoTokenizer.from_pretrained(folder / f"{name}.hf")
            assert type(model).__name__ == kind, type(model)

            command = [args.eval_gpt, "--tokenizer-path", tokenizer, "--dtype", "float32", "--device", "cpu", "--num-threads", "1"]
            command = [str(word) for word in command]
            score = [*command, str(model_file), "--data-path", str(shards), "--eval-tokens", str(WINDOWS * LENGTH), "--format", "jsonl"]
            ours = json.loads(subprocess.run(score, capture_output=True, text=True, check=True).stdout)["val_loss"]
            with torch.no_grad():
                logits = model(inputs).logits.double()
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).item()
            assert abs(loss - ours) < 2e-6, (name, loss, ours)

            prompt = "The river"
            generate = [command[0], "generate", str(model_file), *command[1:], "--prompt", prompt, "--temperature", "0",
                        "--max-new-tokens", str(NEW_TOKENS)]  # fmt: skip
            text = subprocess.run(generate, capture_output=True, text=True, check=True).stdout
            produced = model.generate(**theirs(prompt, return_tensors="pt"), max_new_tokens=NEW_TOKENS, do_sample=False)
            expected = theirs.decode(produced[0], skip_special_tokens=True)
            assert text.split("] ", 1)[1].rstrip("\n") == expected, (name, text, expected)
            print(f"{name}: {kind}, loss {ours:.6f} and {loss:.6f}, the same {len(produced[0])} tokens")
        processor = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
        print(f"{check_tokenizer(theirs, processor)} texts encoded alike")


if __name__ == "__main__":
    main()
