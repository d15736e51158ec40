"""`fyc asl`: from a signing video to linguistic annotation of nonmanual markers.

After Metaxas, Liu, F. Yang, P. Yang, Michael and Neidle (LREC 2012), of which only the abstract and the opening were
available: everything beyond them is our own reading.
"""
