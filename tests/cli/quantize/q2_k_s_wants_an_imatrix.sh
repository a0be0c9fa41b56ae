quern quantize data/fixture/meta-2 -t q2_k_s -n > /dev/null
