printf '# types\nattn_v = q6_k\nattn_vv = q8_0\n' > mix.txt
quern quantize data/fixture/meta-2 -t q4_0 --recipe mix.txt -o /dev/null
