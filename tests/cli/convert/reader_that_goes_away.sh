# SIGPIPE is silent.
set +e +o pipefail
quern convert data/fixture/meta-2 | head -c 1 > /dev/null
echo "${PIPESTATUS[0]}"
