quern types
