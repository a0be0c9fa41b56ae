#!/bin/bash
# fetch_llama.sh FOLDER
# Puts an unmodified llama.cpp, prebuilt, and llama_driver over it into FOLDER: libraries from npm's
# @node-llama-cpp/linux-x64, headers from node-llama-cpp of the same version. Does nothing where they are already.
# Exits with 77 (skipped) where npm is missing or does not answer, and on other machines than x86-64.
set -eu
version=3.22.1
source_dir=$(dirname "$(realpath "$0")")
mkdir -p "$1"
folder=$(realpath "$1")

skip() { echo "skipped: $*" >&2; exit 77; }

[ "$(uname -m)" = x86_64 ] || skip "the prebuilt llama.cpp is for x86-64"

if [ "$(cat "$folder/version" 2>/dev/null)" != "$version" ]; then
  command -v npm >/dev/null || skip "npm is not installed"
  command -v git >/dev/null || skip "git is not installed"
  download=$(mktemp -d "$folder/download.XXXXXX")
  trap 'rm -rf "$download"' EXIT
  cd "$download"
  for package in "@node-llama-cpp/linux-x64" node-llama-cpp; do
    # npm verifies the archive against the registry's checksum.
    timeout 300 npm pack --silent "$package@$version" >archive 2>npm.log || skip "npm does not answer for $package"
    mkdir -p "$package"
    tar xzf "$(tail -n 1 archive)" -C "$package" --strip-components=1
  done
  git -c advice.detachedHead=false clone -q node-llama-cpp/llama/gitRelease.bundle source
  rm -rf "$folder/lib" "$folder/include"
  mkdir "$folder/include"
  cp source/include/llama.h source/ggml/include/*.h "$folder/include"
  mv @node-llama-cpp/linux-x64/bins/linux-x64 "$folder/lib"
  cd "$folder"
  echo "$version" >"$folder/version"
fi

if [ ! -x "$folder/llama_driver" ] || [ "$source_dir/llama_driver.cc" -nt "$folder/llama_driver" ]; then
  ${CXX:-g++} -std=c++20 -O2 -Wall -Wextra -DQUERN_LLAMA_LIBRARIES="\"$folder/lib\"" -isystem "$folder/include" \
    "$source_dir/llama_driver.cc" -o "$folder/llama_driver.new" \
    "$folder"/lib/libllama.v*.so "$folder"/lib/libggml.v*.so "$folder/lib/libggml-base.so" \
    -Wl,-rpath,"$folder/lib"
  mv "$folder/llama_driver.new" "$folder/llama_driver"
fi
