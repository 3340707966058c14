def write_page(outcomes):
    print(len(outcomes), sum(o.noticed is None for o in outcomes))
