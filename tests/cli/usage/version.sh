quern --version
quern version --json | grep -c '"isa"'
