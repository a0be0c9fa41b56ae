#!/bin/bash
# bad_inputs_times.sh QUERN [FOLDER...]
# Runs the malformed files of make_bad_inputs.py (where it is at hand) and all files of other folders through `quern`,
# and prints a row for each: file, exit code, stable id, seconds of CPU time, peak memory in MiB, and what is wrong with
# that: a death by a signal, more than a second, more than 64 MiB + twice the file, unless the manifest's words allow
# more ("< 5 s, < 1 GiB"). Exit code 1 if anything is.
# It is no test of ctest's: times belong to the machine they are measured on.
set -eu -o pipefail
[ $# -ge 1 ] || { echo "usage: ${0##*/} QUERN [FOLDER...]" >&2; exit 2; }
quern=$(realpath "$1")
shift
source_dir=$(dirname "$(realpath "$0")")/..
generator=${QUERN_ASSETS:-$source_dir/../shared/assets}/../bad-inputs/make_bad_inputs.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -e "$generator" ]; then
  python3 "$generator" "$work/bad" >"$work/log" || { cat "$work/log" >&2; exit 1; }
  set -- "$work/bad" "$@"
else
  echo "no $generator: only the folders given" >&2
fi

python3 - "$quern" "$@" <<'EOF'
import json, os, re, resource, signal, sys, tempfile

def limit():
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))

def run(arguments):
    """Returns exit code (negative: signal), what it said, seconds of CPU time, peak memory in MiB."""
    with tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            limit()
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0), os.dup2(null, 1), os.dup2(err.fileno(), 2)
            os.execv(arguments[0], arguments)
        _, status, usage = os.wait4(pid, 0)
        err.seek(0)
        said = err.read().decode('utf-8', 'replace')
    return (os.waitstatus_to_exitcode(status), said, usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss / 1024)

def allowed(path, words):
    """Returns the seconds of CPU time and the MiB that a file may take."""
    seconds = re.search(r'< (\d+) s\b', words)
    gib = re.search(r'< (\d+) GiB', words)
    return (float(seconds[1]) if seconds else 1.0,
            float(gib[1]) * 1024 if gib else 64 + 2 * os.path.getsize(path) / 2**20)

def cases(folder):
    """Yields (path, arguments behind the program, seconds and MiB allowed)."""
    manifest = {}
    if os.path.exists(os.path.join(folder, 'manifest.json')):
        with open(os.path.join(folder, 'manifest.json')) as file:
            manifest = {entry['file']: entry for entry in json.load(file)}
    for base, _, names in os.walk(folder):
        for name in sorted(names):
            path = os.path.join(base, name)
            if not os.path.isfile(path) or name == 'manifest.json':
                continue
            entry = manifest.get(os.path.relpath(path, folder), {})
            through_quantize = entry.get('code', '').startswith(('quant.', 'zip.crc'))
            arguments = (['quantize', path, '-t', 'q8_0', '-o', os.devnull] if through_quantize
                         else ['inspect', path])
            yield path, arguments, allowed(path, entry.get('why', ''))

quern, folders = sys.argv[1], sys.argv[2:]
n_files = n_flagged = 0
slowest = 0.0
print(f"{'file':48} {'exit':>4} {'id':28} {'seconds':>8} {'MiB':>6}")
for folder in folders:
    for path, arguments, (most_seconds, most_mib) in cases(folder):
        code, said, seconds, mib = run([quern] + arguments)
        ids = re.findall(r'\[([a-z0-9.-]+)\]$', said, re.MULTILINE)
        flags = []
        if code < 0:
            flags.append(signal.Signals(-code).name)
        if code == 70:
            flags.append('DEFECT')
        if seconds > most_seconds:
            flags.append('SLOW')
        if mib > most_mib:
            flags.append('MEMORY')
        n_files += 1
        n_flagged += bool(flags)
        slowest = max(slowest, seconds)
        print(f"{os.path.relpath(path, folder):48} {code:4} {ids[0] if ids else '-':28} "
              f"{seconds:8.2f} {mib:6.0f} {' '.join(flags)}".rstrip())
print(f'{n_files} files, {n_flagged} flagged, the slowest took {slowest:.2f} s')
sys.exit(1 if n_flagged else 0)
EOF
