using System.Text.RegularExpressions;

namespace Tutti.Architecture.Tests;

/// <summary>References point downward only.</summary>
public partial class ReferenceTests
{
    public static TheoryData<string> Projects => [.. House.Layers.Select(layer => layer.Project)];

    [Fact]
    public void The_list_of_layers_is_the_source_tree()
    {
        Assert.Equal(House.Layers.Select(layer => layer.Project).Order(), House.ProjectsIn("src").Select(project => project.Name));
    }

    [Fact]
    public void A_layer_names_only_layers_below_it()
    {
        HashSet<string> below = [];
        foreach ((string project, string[] mayReference) in House.Layers)
        {
            House.AssertNone(mayReference.Except(below));
            below.Add(project);
        }
    }

    [Theory]
    [MemberData(nameof(Projects))]
    public void A_project_file_references_only_what_its_layer_may(string project)
    {
        string path = House.ProjectsIn("src").Single(p => p.Name == project).Path;
        IEnumerable<string> references = House.Elements(path, "ProjectReference", "Include").Select(Path.GetFileNameWithoutExtension)!;
        House.AssertNone(references.Except(MayReference(project)));
    }

    [Theory]
    [MemberData(nameof(Projects))]
    public void A_built_assembly_uses_only_what_lies_below_it(string project)
    {
        // What a project may reference brings its own references along.
        HashSet<string> below = [];
        Stack<string> open = new(MayReference(project));
        while (open.TryPop(out string? next))
        {
            if (below.Add(next))
            {
                Array.ForEach(MayReference(next), open.Push);
            }
        }

        using AssemblyReader assembly = new(project);
        House.AssertNone(assembly.References.Where(name => name.StartsWith("Tutti.", StringComparison.Ordinal)).Except(below));
    }

    [Theory]
    [MemberData(nameof(Projects))]
    public void A_source_project_opens_its_internals_to_no_other_one(string project)
    {
        // What crosses between projects is public and says what it promises; only tests and benchmarks may look inside.
        string[] projects = [.. House.Layers.Select(layer => layer.Project), "tutti"];
        string path = House.ProjectsIn("src").Single(p => p.Name == project).Path;
        IEnumerable<string> inProject = House.Elements(path, "InternalsVisibleTo", "Include");
        IEnumerable<string> inSources =
            from source in House.Sources(Path.Combine("src", project))
            from Match match in InternalsVisibleTo().Matches(File.ReadAllText(source))
            select match.Groups[1].Value;
        House.AssertNone(inProject.Concat(inSources).Intersect(projects));
    }

    [Fact]
    public void Every_source_project_has_a_test_project()
    {
        IEnumerable<string> tested = House.ProjectsIn("tests").Select(project => project.Name[..^".Tests".Length]);
        House.AssertNone(House.Layers.Select(layer => layer.Project).Except(tested));
    }

    [Fact]
    public void The_solution_holds_every_project()
    {
        IEnumerable<string> listed = House.Elements(Path.Combine(House.Root, "tutti.slnx"), "Project", "Path").Order();
        IEnumerable<string> present = new[] { "src", "tests", "bench" }.SelectMany(House.ProjectsIn).Select(p => House.Name(p.Path)).Order();
        Assert.Equal(present, listed);
    }

    private static string[] MayReference(string project) => House.Layers.Single(layer => layer.Project == project).MayReference;

    [GeneratedRegex(@"InternalsVisibleTo\(""([^""]+)""\)")]
    private static partial Regex InternalsVisibleTo();
}
