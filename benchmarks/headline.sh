#!/usr/bin/env bash
# Memory, time and accuracy of sparse, dense (chunked, in place) and dense as one would write it (autograd, all logits at
# once), at equal steps: the table of docs/results/arxiv.md with three rows.
# Usage: benchmarks/headline.sh ArxivTitleAuthors OUT [STEPS]
# 300 steps by default: about an hour on one core, most of it the two dense ones. Goes on where it was stopped.
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: $0 DATA OUT [STEPS]" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")/.." && pwd)
encoder=tokenizer.vocabulary_size=60000,encoder.embedding_dim=192,encoder.dropout=0.3,encoder.token_dropout=0.25
rows=training.validation_share=0.01
start=classifier.start=centroids,classifier.start_gain=12
rate=classifier.update.eps=5.0e-5,classifier.schedule.learning_rate=2.0e-3
"$here/.venv/bin/fanin" compare "$1" --out "$2" --budget steps="${3:-300}" \
  --recipe sparse=rare-labels \
  --recipe "dense=dense:$encoder,$rows,$start,$rate" \
  --recipe "dense-autograd=dense-autograd:$encoder,$rows,$start,$rate"
