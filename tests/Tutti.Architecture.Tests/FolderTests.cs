namespace Tutti.Architecture.Tests;

/// <summary>The folders of a project stand on one another, as projects do.</summary>
public class FolderTests
{
    public static TheoryData<string> Projects => [.. House.Layers.Select(layer => layer.Project)];

    [Theory]
    [MemberData(nameof(Projects))]
    public void Folders_of_a_project_do_not_use_each_other_in_circles(string project)
    {
        FolderUses uses = FolderUses.OfProject(project);
        IEnumerable<string> known = House.KnownCircles.Where(circle => circle.Project == project).Select(circle => circle.Folders);
        House.AssertNone(uses.Circles().Except(known).Select(circle => $"{project}: {circle}{uses.Explain(circle)}"));
    }

    [Fact]
    public void Circles_that_are_known_are_still_there()
    {
        // One that has gone leaves the list, and so cannot come back.
        House.AssertNone(
            from circle in House.KnownCircles
            where !FolderUses.OfProject(circle.Project).Circles().Contains(circle.Folders)
            select $"{circle.Project}: {circle.Folders} is no circle any more");
    }

    [Fact]
    public void The_reader_sees_a_circle_over_three_folders_and_no_use_in_words()
    {
        (string, string, string)[] sources =
        [
            ("", "Engine.cs", "public class Engine\n{\n    private readonly Wheel _wheel = new();\n}\n"),
            ("A", "Wheel.cs", "public class Wheel\n{\n    public Axle? Axle { get; set; }\n}\n"),
            ("B", "Axle.cs", "public class Axle\n{\n    public static object Make() => (object)new Bolt();\n}\n"),
            ("C", "Bolt.cs", "internal sealed class Bolt : Part\n{\n    public void Turn(List<Wheel> wheels) => wheels.Clear();\n}\n"),
            ("D", "Part.cs", "/// <summary>Of a <see cref=\"Wheel\"/>.</summary>\npublic class Part\n{\n    public string Name => \"Wheel of Engine\";\n\n    public void Axle() => Bolt = 1;\n}\n"),
        ];
        Assert.Equal(["A B C"], FolderUses.Of(sources).Circles());
    }
}
