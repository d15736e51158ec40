"""Operations that fyc's modules run on, one package each: `reference` is the specification, the rest is speed."""
