#!/usr/bin/env bash
# Make or complete a virtual environment:  tools/env/setup.sh STACK LEVEL
#
#   STACK  onedl      in .venv            the maintained OneDL forks; Python 3.10 to 3.12
#          originals  in .venv-originals  open-mmlab's last common set of releases; Python 3.11
#          docs       in .venv-docs       Sphinx and nothing of the others, for the level docs; Python 3.11, 3.12
#   LEVEL  lint       what `make lint` calls, alone
#          docs       what makes the site
#          pretrain   pre-training and classification; compiles nothing
#          test       all of it: mmcv with its compiled ops, mmdet, mmseg and pytest
#
# PYTHON selects the interpreter. A finished step is recorded in the environment together with what it was made from,
# and runs again only when that has changed; a failed or interrupted one leaves no record, so just call again.
#
# OpenMMLab's packages are installed without their own requirements: those name both opencv-python and
# opencv-python-headless (two copies of one module; the former needs libGL) and others that nothing imports.
# What they do need is in pretrain.txt and test.txt.
set -euo pipefail
unset PYTHONHOME PYTHONPATH
# Where byte code is not written, as in many containers, every start of a tool takes 25 s instead of 10.
unset PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX
export PYTHONNOUSERSITE=1

stack=$1 level=$2
cd "$(dirname "$0")/../.."
lists=tools/env/$stack
case $stack in
    onedl) venv=.venv supported='3.10 3.11 3.12' ;;
    originals) venv=.venv-originals supported='3.11' ;;
    docs) venv=.venv-docs supported='3.11 3.12' ;;
esac

say() { printf '==> %s\n' "$*"; }
die() {
    printf '\nERROR: %s\n' "$1" >&2
    shift
    (($# == 0)) || printf '       %s\n' "$@" >&2
    exit 1
}

# --- the interpreter and the environment ------------------------------------------------------------------------------
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
is_supported() { [[ -n $1 && " $supported " == *" $1 "* ]]; }

find_python() {
    local version
    if [[ -n ${PYTHON:-} ]]; then
        version=$(version_of "$PYTHON") || die "PYTHON=$PYTHON is not a Python that runs."
        is_supported "$version" ||
            die "PYTHON=$PYTHON is Python $version, and $venv needs one of: $supported." \
                'Select another, for example: make demo PYTHON=python3.11'
        python=$PYTHON
        return
    fi
    for python in python3 python3.{12,11,10}; do
        if version=$(version_of "$python") && is_supported "$version"; then return; fi
    done
    die "no Python found that $venv can use ($supported); python3 is $(version_of python3 || echo missing)." \
        'Say where one is, for example: make demo PYTHON=/path/to/python3.11'
}

# An environment is kept, whoever made it, if it works and is of the version asked for.
is_intact() {
    local version
    version=$(version_of "$venv/bin/python") && is_supported "$version" || return
    [[ -z ${PYTHON:-} || $version == "$(version_of "$PYTHON")" ]] || return
    [[ -e $venv/.done/pip ]] || "$venv/bin/python" -m pip --version >/dev/null 2>&1
}

make_venv() {
    # not `venv --clear`, which would delete our log, nor `rm -r`, which would take the directory we hold locked
    find "$venv" -mindepth 1 -maxdepth 1 ! -name '*.log' -exec rm -rf {} +
    "$python" -m venv "$venv"
}

# --- steps ------------------------------------------------------------------------------------------------------------
# step NAME INPUTS MESSAGE COMMAND...: run COMMAND, unless it has already succeeded with the same INPUTS
step() {
    local name=$1 inputs=$2 message=$3 status start=$SECONDS
    local record=$venv/.done/$name log=$venv/$name.log
    shift 3
    if [[ -e $record && $(<"$record") == "$inputs" ]]; then return; fi
    say "$message"
    rm -f "$record"
    set +e # `if` or `||` would switch off the `set -e` of the subshell
    (set -e && "$@") >"$log" 2>&1 </dev/null
    status=$?
    set -e
    if ((status)); then
        echo && tail -n 15 "$log"
        die "this step failed: $message" "The full log: $log" \
            'Once the cause is gone, give the same command again; finished steps are not repeated.'
    fi
    mkdir -p "$venv/.done"
    printf '%s\n' "$inputs" >"$record"
    ((SECONDS - start < 5)) || printf '    %d s\n' $((SECONDS - start))
}

hash_of() { cat "$@" | sha256sum | cut -c1-16; }
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
# No byte code: the first import writes what is needed, and all of it would take longer than the installation.
install() { pip install --no-compile --progress-bar off "$@"; }

# --- mmcv with compiled ops -------------------------------------------------------------------------------------------
cache=${XDG_CACHE_HOME:-$HOME/.cache}/coma_mm/mmcv

have_wheel() { compgen -G "$1/*.whl" >/dev/null; }

# everything a compiled wheel depends on
ops_key() {
    "$venv/bin/python" -c "
import sys, sysconfig
from importlib.metadata import version
print('${mmcv/==/-}', 'torch' + version('torch'), sys.implementation.cache_tag, sysconfig.get_platform(), sep='-')"
}

# For the CPU also where there is a GPU: the same few minutes everywhere, and no CUDA toolkit needed.
build_ops() {
    local wheels=$1 building=$1/.building
    ${CXX:-c++} --version || { echo 'There is no C++ compiler: install g++.' && exit 1; }
    "$venv/bin/python" -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' ||
        { echo "Python's headers are missing: install python3-dev (python3-devel)." && exit 1; }
    mkdir -p "$wheels"
    exec 8<"$wheels"
    flock 8
    if have_wheel "$wheels"; then return; fi # another checkout has built it meanwhile
    rm -rf "$building"
    PATH=$PWD/$venv/bin:$PATH MAX_JOBS=${MAX_JOBS:-$(nproc)} CUDA_VISIBLE_DEVICES='' FORCE_CUDA=0 \
        pip wheel --no-build-isolation --no-deps --no-cache-dir --wheel-dir "$building" "$mmcv"
    mv "$building"/*.whl "$wheels"
    rmdir "$building"
}

install_ops() {
    local wheels=$1
    have_wheel "$wheels" || build_ops "$wheels"
    install --no-deps --force-reinstall "$wheels"/*.whl
}

# --- what to do -------------------------------------------------------------------------------------------------------
mkdir -p "$venv"
exec 9<"$venv"
flock -n 9 || { say "waiting for another set-up of $venv" && flock 9; }

if ! is_intact; then
    find_python
    rm -rf "$venv/.done"
    step venv "$python" "making $venv with $(command -v "$python"), $("$python" --version)" make_venv
fi
# pip writes RECORD last: a package without one was cut short, yet pip would take it for installed
for package in "$venv"/lib/python*/site-packages/*.dist-info; do
    [[ -e $package/RECORD ]] || rm -rf "$package"
done
step pip 26.3 'updating pip' install pip==26.3

if [[ $level == lint || $level == docs ]]; then
    step "$level" "$(hash_of "tools/env/$level.txt")" "installing the tools of $level" install -r "tools/env/$level.txt"
    exit
fi

# What is installed from, and recorded: the lists that both stacks share, and the stack's own.
packages=(tools/env/pretrain.txt "$lists/torch.txt")
mmcv=$(grep -hE '^(onedl-)?mmcv==' "$lists/mm-pretrain.txt")
packages_test=(tools/env/test.txt "$lists/build.txt")
[[ ! -e $lists/test.txt ]] || packages_test+=("$lists/test.txt")

install_lists() { install "${@/#/--requirement=}"; }

# LIST MODULES: importing them once checks them, and writes the byte code
install_toolboxes() {
    # pip's own cache of built wheels does not know that mmcv's differ: keep out of it
    install --no-deps --no-cache-dir --build-constraint "$lists/build.txt" -r "$1"
    if ! "$venv/bin/python" -c "import $2"; then
        rm -f "$venv/.done/ops" # install mmcv again next time
        echo "If it is mmcv.ops that does not load, delete $cache as well, to have it compiled again."
        exit 1
    fi
}

step packages "$(hash_of "${packages[@]}")" \
    'installing PyTorch and the packages of pre-training (3 GB the first time, 1-2 minutes)' \
    install_lists "${packages[@]}"

if [[ $level == test ]]; then
    step packages-test "$(hash_of "${packages_test[@]}")" 'installing the packages of the tests' \
        install_lists "${packages_test[@]}"
    wheels=$cache/$(ops_key)
    message='installing mmcv with its compiled ops'
    have_wheel "$wheels" || message+=" (compiled once, into $cache: 8 minutes on 2 cores)"
    step ops "$wheels" "$message" install_ops "$wheels"
fi

step pretrain "$(hash_of "${packages[@]}" "$lists/mm-pretrain.txt")" \
    'installing mmengine, mmcv and mmpretrain, and importing them' \
    install_toolboxes "$lists/mm-pretrain.txt" 'torch._dynamo, torchvision, skimage.io, sklearn.datasets, matplotlib.pyplot, mmpretrain.apis'

[[ $level == pretrain ]] || step test "$(hash_of "${packages[@]}" "${packages_test[@]}" "$lists"/mm-*.txt)" \
    'installing mmdet and mmseg, and importing them' \
    install_toolboxes "$lists/mm-test.txt" 'mmcv.ops, mmdet.apis, mmseg.apis, torch._inductor.compile_fx, timm, pytest, xdist'

step coma_mm "$PWD $(hash_of setup.py pyproject.toml coma_mm/version.py)" 'linking coma_mm to this checkout' \
    install --no-deps --build-constraint "$lists/build.txt" --editable .
