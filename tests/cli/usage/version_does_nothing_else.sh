quern convert data/fixture/meta-2 -o m.gguf --version | head -n 1
quern --version convert data/fixture/meta-2 -o m.gguf | head -n 1
quern version --json=v.json && grep -c quern.version v.json
quern version anything || echo $?
ls
