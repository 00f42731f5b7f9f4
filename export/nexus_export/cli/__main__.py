from nexus_export.cli import main

main()
