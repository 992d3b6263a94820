# SPDX-License-Identifier: Apache-2.0
#
# cmake -DIN=FILE -DOUT=FILE.cc -DSYMBOL=name -P EmbedFile.cmake
# A file as `const unsigned char name[]` and `const unsigned long name_size`.
file(READ ${IN} bytes HEX)
string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
file(WRITE ${OUT} "extern \"C\" {\nextern const unsigned char ${SYMBOL}[];\nextern const unsigned long ${SYMBOL}_size;\n"
  "const unsigned char ${SYMBOL}[] = {${bytes}};\nconst unsigned long ${SYMBOL}_size = sizeof ${SYMBOL};\n}\n")
