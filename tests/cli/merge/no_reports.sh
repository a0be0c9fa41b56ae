quern merge
