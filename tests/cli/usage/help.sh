quern --help
